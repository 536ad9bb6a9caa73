// Rows are uploaded, and an adapter is trained on them in two steps; the name that the job ends with is one to chat with.
import { setTimeout as sleep } from "node:timers/promises";
import { toFile } from "openai";
import { client, tell } from "./client.mjs";

const question = { role: "user", content: "Which fruit is it?" };
const row = JSON.stringify({ messages: [question, { role: "assistant", content: "A quince." }] });
const file = await client.files.create({
  file: await toFile(Buffer.from(`${row}\n`.repeat(2)), "rows.jsonl"),
  purpose: "fine-tune",
});
let job = await client.fineTuning.jobs.create({
  model: "base",
  training_file: file.id,
  suffix: "From Node",
  seed: 7,
  method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 2, batch_size: 2 } } },
});
while (!["succeeded", "failed", "cancelled"].includes(job.status)) {
  await sleep(500);
  job = await client.fineTuning.jobs.retrieve(job.id);
}
const events = [];
for await (const event of client.fineTuning.jobs.listEvents(job.id)) events.push(event.message);
tell({ job, events });
