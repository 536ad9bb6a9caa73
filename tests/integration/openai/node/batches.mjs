// A file of requests is answered as a batch; one that has ended is not cancelled any more.
import { setTimeout as sleep } from "node:timers/promises";
import OpenAI, { toFile } from "openai";
import { client, tell } from "./client.mjs";

const lines = [1, 2, -3].map((n) =>
  JSON.stringify({ custom_id: `c${n}`, method: "POST", url: "/v1/completions", body: { model: "base", n } }),
);
const file = await client.files.create({
  file: await toFile(Buffer.from(lines.join("\n")), "requests.jsonl"),
  purpose: "batch",
});
let batch = await client.batches.create({
  input_file_id: file.id,
  endpoint: "/v1/completions",
  completion_window: "24h",
  metadata: { for: "node" },
});
while (!["completed", "failed", "expired", "cancelled"].includes(batch.status)) {
  await sleep(50);
  batch = await client.batches.retrieve(batch.id);
}
const answers = (await (await client.files.content(batch.output_file_id)).text()).trim().split("\n").map(JSON.parse);
const listed = [];
for await (const each of client.batches.list({ limit: 1 })) listed.push(each.id);
let refused = null;
try {
  await client.batches.cancel(batch.id);
} catch (error) {
  if (!(error instanceof OpenAI.APIError)) throw error;
  refused = error.code;
}
tell({ batch, listed, refused, answered: answers.map((line) => line.custom_id) });
