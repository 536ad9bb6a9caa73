// A text is continued, whole and in chunks.
import { client, tell } from "./client.mjs";

const wanted = { model: "base", prompt: "The ferry", max_tokens: 3 };
const whole = await client.completions.create(wanted);
let text = "";
let usage = null;
const stream = await client.completions.create({ ...wanted, stream: true, stream_options: { include_usage: true } });
for await (const chunk of stream) {
  for (const choice of chunk.choices) text += choice.text;
  usage = chunk.usage ?? usage;
}
tell({ whole, text, usage });
