// A response that is asked for under the id of another: its stream begins, and ends as failed. The id is the argument.
import OpenAI from "openai";
import { client, tell } from "./client.mjs";

const trivium = { request_id: process.argv[2] };
const asked = { model: "base", max_output_tokens: 2, trivium };
await client.responses.create({ ...asked, input: "Hello" });

async function broken(stream) {
  const kinds = [];
  try {
    for await (const event of stream) kinds.push(event.type);
  } catch (error) {
    const { code, type, message } = error;
    return { isApiError: error instanceof OpenAI.APIError, code, type, message, first: kinds[0], last: kinds.at(-1) };
  }
  throw new Error("it did not break");
}

const found = await broken(await client.responses.create({ ...asked, input: "Another", stream: true }));
const helper = await broken(client.responses.stream({ ...asked, input: "A third" }));
const { input_tokens } = await client.responses.inputTokens.count({ model: "base", input: "Hello" });
tell({ ...found, helper: helper.code, counted: input_tokens });
