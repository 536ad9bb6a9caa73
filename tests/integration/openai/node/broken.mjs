// A stream that is cut while it is read: whoever started this does the cutting once a word has come.
import OpenAI from "openai";
import { client, tell } from "./client.mjs";

const stream = await client.chat.completions.create({
  model: "base",
  messages: [{ role: "user", content: "Hello" }],
  max_tokens: 4000,
  stream: true,
});
let chunks = 0;
try {
  for await (const chunk of stream) {
    chunks += 1;
    if (chunks === 2) console.error("reading");
  }
  tell({ class: "none", chunks });
} catch (error) {
  const { code, type, message } = error;
  const isApiError = error instanceof OpenAI.APIError;
  tell({ class: error.constructor.name, isApiError, code, type, message, chunks, at: Date.now() / 1000 });
}
