// What is refused, as the client's own classes tell it.
import OpenAI from "openai";
import { client, tell } from "./client.mjs";

const messages = [{ role: "user", content: "Hello" }];
const stranger = client.withOptions({ apiKey: "tv_wrong_key" });

async function refusal(call) {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    const { status, code, param, type, message, requestID } = error;
    return { class: error.constructor.name, status, code, param, type, message, requestID };
  }
  throw new Error("it was not refused");
}

tell({
  model: await refusal(() => client.chat.completions.create({ model: "nobodys", messages })),
  streamed: await refusal(() => client.chat.completions.create({ model: "nobodys", messages, stream: true })),
  parameter: await refusal(() => client.chat.completions.create({ model: "base", messages, store: true })),
  key: await refusal(() => stranger.models.list()),
  file: await refusal(() => client.files.retrieve("file-nobodys")),
  deletion: await refusal(() => client.models.delete("base")),
});
