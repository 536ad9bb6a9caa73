// A function is called in a response, and what it returned is gone on from; then what was kept is read, and deleted.
import OpenAI from "openai";
import { zodResponsesFunction } from "openai/helpers/zod";
import { z } from "zod";
import { client, tell } from "./client.mjs";

const weather = zodResponsesFunction({ name: "weather", parameters: z.object({ city: z.enum(["Zug", "Chur"]) }) });
const first = await client.responses.parse({ model: "base", input: "How is the weather in Zug?", tools: [weather] });
const [call] = first.output;
const output = { type: "function_call_output", call_id: call.call_id, output: "Fog." };
const second = await client.responses.create({
  model: "base",
  previous_response_id: first.id,
  input: [output],
  max_output_tokens: 3,
});
const kept = await client.responses.retrieve(second.id);
const asked = [];
for await (const item of client.responses.inputItems.list(second.id)) asked.push(item.type);

async function refusal(call) {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    return error.code;
  }
  throw new Error("it was not refused");
}

const cancelled = await refusal(() => client.responses.cancel(second.id));
await client.responses.delete(second.id);
const gone = await refusal(() => client.responses.retrieve(second.id));
tell({ call, said: second.output_text, kept: kept.output_text, asked, cancelled, gone });
