// Streams chat completions from an OpenAI-shaped door: so many at once, or at a constant rate of arrival.
// Settings come from the environment; the summary is one JSON document on standard output.
import http from "k6/http";
import { Counter, Trend } from "k6/metrics";

const setting = (name, fallback) => (__ENV[name] === undefined ? fallback : __ENV[name]);
const TOKENS = Number(setting("TOKENS", "64"));
const PROMPT_WORDS = Number(setting("PROMPT_WORDS", "48"));
// What hangs is to be seen as such, not waited for: what is still open then is interrupted, and was begun and nothing else.
const gracefulStop = `${setting("GRACE_SECONDS", "60")}s`;
// k6's code of a request that it gave up itself.
const GIVEN_UP = 1050;
const closed = {
  gracefulStop,
  executor: "shared-iterations",
  vus: Number(setting("AT_ONCE", "32")),
  iterations: Number(setting("REQUESTS", "64")),
  maxDuration: "30m",
};
const open = {
  gracefulStop,
  executor: "constant-arrival-rate",
  rate: Math.max(1, Math.round(60 * Number(setting("RATE", "1")))),
  timeUnit: "60s",
  duration: `${setting("SECONDS", "60")}s`,
  preAllocatedVUs: Number(setting("VUS", "256")),
  maxVUs: Number(setting("VUS", "256")),
};
export const options = {
  scenarios: { chat: setting("OPEN", "") ? open : closed },
  summaryTrendStats: ["min", "med", "p(90)", "p(99)", "max", "count"],
};

// For how long the caller says that it waits; nothing is said without.
const GOOD_MS = Number(setting("GOOD_MS", "Infinity"));
const begun = new Counter("begun");
const served = new Counter("served");
const good = new Counter("good");
const shed = new Counter("shed");
const late = new Counter("late");
const broken = new Counter("broken");
const hinted = new Counter("hinted");
const servedMs = new Trend("served_ms");
const shedMs = new Trend("shed_ms");
const firstByteMs = new Trend("first_byte_ms");

// Words of our own; the number makes every prompt another one, so that no door answers from a cache of prefixes.
const WORDS = "the ferry leaves the old pier at nine and the harbour bell tells the boats of wind and rain".split(" ");

function prompt(number) {
  const words = [];
  for (let place = 0; place < PROMPT_WORDS; place += 1) {
    words.push(WORDS[(number * 7 + place * (1 + (number % 5))) % WORDS.length]);
  }
  return `${number}. ${words.join(" ")}`;
}

export default function () {
  // Before anything that may hang.
  begun.add(1);
  const number = __VU * 100000 + __ITER;
  const body = {
    model: setting("MODEL", "base"),
    messages: [{ role: "user", content: prompt(number) }],
    max_tokens: TOKENS,
    temperature: 0,
    ignore_eos: true,
    stream: true,
    stream_options: { include_usage: true },
  };
  const headers = { "content-type": "application/json", authorization: `Bearer ${setting("KEY", "none")}` };
  if (GOOD_MS < Infinity) {
    headers["x-envoy-expected-rq-timeout-ms"] = String(Math.ceil(GOOD_MS));
  }
  const answer = http.post(`${setting("URL", "")}/v1/chat/completions`, JSON.stringify(body), {
    headers,
    timeout: `${setting("TIMEOUT_SECONDS", "600")}s`,
  });
  if (answer.error_code === GIVEN_UP) {
    return;
  }
  if (answer.status === 200 && answer.body.includes("[DONE]") && !answer.body.includes('"error"')) {
    served.add(1);
    good.add(answer.timings.duration <= GOOD_MS ? 1 : 0);
    servedMs.add(answer.timings.duration);
    firstByteMs.add(answer.timings.waiting);
  } else if (answer.status === 429 || answer.status === 503) {
    shed.add(1);
    shedMs.add(answer.timings.duration);
    if (answer.headers["Retry-After"]) {
      hinted.add(1);
    }
  } else if (answer.status === 504 || String(answer.body).includes('"deadline_exceeded"')) {
    late.add(1);
  } else {
    broken.add(1);
    console.error(`${answer.status} ${answer.error} ${String(answer.body).slice(-200)}`);
  }
}

export function handleSummary(data) {
  const count = (name) => (data.metrics[name] ? data.metrics[name].values.count : 0);
  const trend = (name) => (data.metrics[name] ? data.metrics[name].values : null);
  const told = {
    begun: count("begun"),
    served: count("served"),
    good: count("good"),
    shed: count("shed"),
    hinted: count("hinted"),
    late: count("late"),
    broken: count("broken"),
    dropped: count("dropped_iterations"),
    served_ms: trend("served_ms"),
    shed_ms: trend("shed_ms"),
    first_byte_ms: trend("first_byte_ms"),
    seconds: data.state.testRunDurationMs / 1000,
  };
  return { stdout: JSON.stringify(told) };
}
