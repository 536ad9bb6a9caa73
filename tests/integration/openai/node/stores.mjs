// Files are uploaded into a store, searched by words and by attributes, and read again.
import { toFile } from "openai";
import { client, tell } from "./client.mjs";

// Offsets count code points and JavaScript's strings have two units for a ship: whoever slices wrongly gets other words.
const FARES = "# Fares 🚢🚢🚢\n\nAn adult's day ticket is 9 crowns. A child's day ticket is 4 crowns. Dogs travel free.\n";
const FOG = "# Fog\n\nIn fog the boats sail at half speed and sound one long blast every two minutes.\n";

const store = await client.vectorStores.create({ name: "Ferry" });
const fares = await client.vectorStores.files.uploadAndPoll(store.id, await toFile(Buffer.from(FARES), "fares.md"));
const uploaded = await client.files.create({ file: await toFile(Buffer.from(FOG), "fog.md"), purpose: "assistants" });
const batch = await client.vectorStores.fileBatches.createAndPoll(store.id, { file_ids: [uploaded.id] });
await client.vectorStores.files.update(fares.id, { vector_store_id: store.id, attributes: { about: "money" } });

async function searched(query, wanted) {
  const hits = [];
  for await (const hit of client.vectorStores.search(store.id, { query, ...wanted })) hits.push(hit);
  return hits;
}

const near = await searched("How do boats sail in fog?", { max_num_results: 1 });
const [filtered] = await searched("How do boats sail in fog?", {
  filters: { type: "eq", key: "about", value: "money" },
});
let content = "";
for await (const part of client.vectorStores.files.content(fares.id, { vector_store_id: store.id })) content += part.text;
const { start, end } = filtered.trivium;
tell({
  statuses: [fares.status, batch.status],
  uploaded,
  near: near.map((hit) => hit.filename),
  filtered,
  passage: [...content].slice(start, end).join(""),
  contentIsTheFile: content === FARES,
});
await client.vectorStores.delete(store.id);
