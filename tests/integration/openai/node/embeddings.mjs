// The client asks for base64 by itself and gives numbers; asked for numbers it passes on what came.
import { client, tell } from "./client.mjs";

const wanted = { model: "all-minilm-l6-v2", input: ["A single crossing costs six crowns.", "The fog horn sounds twice."] };
const vectors = (answer) => answer.data.map((item) => item.embedding);
const plain = await client.embeddings.create(wanted);
const numbers = await client.embeddings.create({ ...wanted, encoding_format: "float" });
tell({ plain: vectors(plain), numbers: vectors(numbers), tokens: plain.usage.total_tokens });
