// A store of two files is asked; the annotation of the answer leads to the characters of the file that it cites.
import { toFile } from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { client, tell } from "./client.mjs";

// Offsets count code points and JavaScript's strings have two units for a ship: whoever slices wrongly gets other words.
const FARES = "# Fares 🚢🚢🚢\n\nAn adult's day ticket is 9 crowns. A child's day ticket is 4 crowns. Dogs travel free.\n";
const FOG = "# Fog\n\nIn fog the boats sail at half speed and sound one long blast every two minutes.\n";

const store = await client.vectorStores.create({ name: "Ferry from Node" });
const uploaded = await client.files.create({
  file: await toFile(Buffer.from(FARES), "fares.md"),
  purpose: "assistants",
});
const fares = await client.vectorStores.files.createAndPoll(store.id, { file_id: uploaded.id });
const fog = await client.vectorStores.files.uploadAndPoll(store.id, await toFile(Buffer.from(FOG), "fog.md"));

// A model this small seldom cites by itself: the shape makes it.
const Cited = z.object({ answer: z.enum(["9 crowns [1]"]) });
const wanted = {
  model: "base",
  input: "How much is a day ticket for an adult?",
  tools: [{ type: "file_search", vector_store_ids: [store.id], max_num_results: 1 }],
  include: ["file_search_call.results"],
  text: { format: zodTextFormat(Cited, "cited") },
  temperature: 0,
  max_output_tokens: 32,
};
const answer = await client.responses.parse(wanted);
const events = [];
const stream = client.responses.stream(wanted);
for await (const event of stream) events.push(event.type);
const streamed = await stream.finalResponse();

const [search, message] = answer.output;
const [annotation] = message.content[0].annotations;
let content = "";
for await (const part of client.vectorStores.files.content(annotation.file_id, { vector_store_id: store.id })) {
  content += part.text;
}
const sliced = (text, start, end) => [...text].slice(start, end).join("");
tell({
  statuses: [fares.status, fog.status],
  uploaded,
  parsed: answer.output_parsed,
  results: search.results,
  annotation,
  marker: sliced(answer.output_text, annotation.index, annotation.trivium.end_index),
  cited: sliced(content, annotation.trivium.start, annotation.trivium.end),
  contentIsTheFile: content === FARES,
  events,
  streamed: streamed.output_text,
  whole: answer.output_text,
});
await client.vectorStores.delete(store.id);
