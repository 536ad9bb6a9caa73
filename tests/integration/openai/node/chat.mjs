// One question to the model that is named, answered whole, in chunks with their usage, and in chunks that the client's helper puts together.
import { client, tell } from "./client.mjs";

const wanted = {
  model: process.argv[2] ?? "base",
  messages: [{ role: "user", content: "What is the capital of Japan?" }],
  temperature: 0,
  max_tokens: 12,
};
const whole = await client.chat.completions.create(wanted);

let text = "";
let usage = null;
const ends = [];
const stream = await client.chat.completions.create({
  ...wanted,
  stream: true,
  stream_options: { include_usage: true },
});
for await (const chunk of stream) {
  for (const choice of chunk.choices) {
    text += choice.delta.content ?? "";
    if (choice.finish_reason) ends.push(choice.finish_reason);
  }
  usage = chunk.usage ?? usage;
}

const gathered = await client.chat.completions.stream(wanted).finalChatCompletion();
tell({ whole, requestId: whole._request_id, text, usage, ends, gathered: gathered.choices[0].message.content });
