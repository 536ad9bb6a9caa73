// Everything else that the client does with files and stores: lists, changes, batches, waiting, and taking away again.
import { toFile } from "openai";
import { client, tell } from "./client.mjs";

async function all(page, of = (item) => item.id) {
  const found = [];
  for await (const item of page) found.push(of(item));
  return found;
}

const page = (name) => toFile(Buffer.from(`# ${name}\n\nOf the ${name} nothing else is known.\n`), `${name}.md`);
const file = await client.files.create({ file: await page("mooring"), purpose: "assistants" });
const processed = await client.files.waitForProcessing(file.id, { pollInterval: 50 });
const retrieved = await client.files.retrieve(file.id);
const content = await (await client.files.content(file.id)).text();
const files = await all(client.files.list({ purpose: "assistants", limit: 1 }));

const store = await client.vectorStores.create({ name: "Ferry" });
const id = { vector_store_id: store.id };
const renamed = await client.vectorStores.update(store.id, { name: "Ferries" });
const same = await client.vectorStores.retrieve(store.id);
const stores = await all(client.vectorStores.list({ limit: 1 }));

await client.vectorStores.files.create(store.id, { file_id: file.id });
const polled = await client.vectorStores.files.poll(store.id, file.id);
const uploaded = await client.vectorStores.files.upload(store.id, await page("fog"));
const put = await client.vectorStores.files.retrieve(uploaded.id, id);
const made = await client.vectorStores.fileBatches.create(store.id, { file_ids: [file.id] });
const waited = await client.vectorStores.fileBatches.poll(store.id, made.id);
const batch = await client.vectorStores.fileBatches.retrieve(made.id, id);
const listed = await all(client.vectorStores.fileBatches.listFiles(made.id, id));
const cancelled = await client.vectorStores.fileBatches.cancel(made.id, id);
const together = await client.vectorStores.fileBatches.uploadAndPoll(store.id, { files: [await page("bow"), await page("stern")] });
await client.vectorStores.files.poll(store.id, uploaded.id);
const held = await all(client.vectorStores.files.list(store.id, { limit: 2 }));
await client.vectorStores.files.delete(uploaded.id, id);
const left = await all(client.vectorStores.files.list(store.id));
const gone = [await client.vectorStores.delete(store.id), await client.files.delete(file.id)];
tell({
  file: file.id,
  processed: processed.status,
  same: retrieved.id === file.id,
  content,
  files,
  names: [renamed.name, same.name],
  store: store.id,
  stores,
  polled: polled.status,
  put: put.id === uploaded.id,
  waited: waited.status,
  counts: batch.file_counts,
  listed,
  cancelled: cancelled.status,
  together: [together.status, together.file_counts.completed],
  held: held.length,
  left: left.length,
  gone: gone.map((it) => it.deleted),
});
