// All models, page after page, and one of them by its name.
import { client, tell } from "./client.mjs";

const ids = [];
for await (const model of client.models.list()) ids.push(model.id);
const base = await client.models.retrieve("base");
tell({ ids, base });
