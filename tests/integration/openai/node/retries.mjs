// What the client does by itself where no engine serves and it was told when to come again.
import OpenAI from "openai";
import { tell } from "./client.mjs";

const asked = [];
const client = new OpenAI({
  maxRetries: 1,
  fetch: async (url, init) => {
    const begun = performance.now();
    const answer = await fetch(url, init);
    const { status, headers } = answer;
    asked.push({ begun, ended: performance.now(), status, retryAfter: headers.get("retry-after") });
    return answer;
  },
});
try {
  await client.chat.completions.create({ model: "base", messages: [{ role: "user", content: "Hello" }] });
} catch (error) {
  const { status, code, requestID } = error;
  tell({ class: error.constructor.name, status, code, requestID, asked });
}
