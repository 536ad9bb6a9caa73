// A job is paused, found by what is written on it, goes on, and is cancelled.
import { setTimeout as sleep } from "node:timers/promises";
import { toFile } from "openai";
import { client, tell } from "./client.mjs";

const row = { messages: [{ role: "user", content: "Which fruit is it?" }, { role: "assistant", content: "A pear." }] };
const file = await client.files.create({
  file: await toFile(Buffer.from(JSON.stringify(row)), "pear.jsonl"),
  purpose: "fine-tune",
});
const job = await client.fineTuning.jobs.create({
  model: "base",
  training_file: file.id,
  metadata: { of: "node" },
  method: { type: "supervised", supervised: { hyperparameters: { n_epochs: 1000 } } },
});

async function until(status) {
  for (;;) {
    const found = await client.fineTuning.jobs.retrieve(job.id);
    if (found.status === status) return status;
    await sleep(50);
  }
}

await client.fineTuning.jobs.pause(job.id);
const paused = await until("paused");
const listed = [];
for await (const found of client.fineTuning.jobs.list({ metadata: { of: "node" } })) listed.push(found.id);
const checkpoints = [];
for await (const kept of client.fineTuning.jobs.checkpoints.list(job.id)) checkpoints.push(kept.fine_tuned_model_checkpoint);
const resumed = await client.fineTuning.jobs.resume(job.id);
await client.fineTuning.jobs.cancel(job.id);
tell({ job: job.id, paused, listed, checkpoints, resumed: resumed.status, ended: await until("cancelled") });
