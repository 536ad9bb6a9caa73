// Every method that the client has on what this door is about.
import { client, tell } from "./client.mjs";

const found = [];

function walk(resource, path) {
  const known = Object.getOwnPropertyNames(Object.getPrototypeOf(resource));
  for (const name of known) {
    if (name !== "constructor" && !name.startsWith("_") && typeof resource[name] === "function") {
      found.push([...path, name].join("."));
    }
  }
  for (const [name, below] of Object.entries(resource)) {
    if (!name.startsWith("_") && below !== null && typeof below === "object") walk(below, [...path, name]);
  }
}

const families = ["chat", "completions", "models", "embeddings", "files", "fineTuning", "vectorStores", "responses", "batches"];
for (const family of families) walk(client[family], [family]);
tell({ methods: found });
