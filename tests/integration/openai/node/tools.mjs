// A function is called, in each way that the client has for it: as it comes, read by zod, put together from chunks, and
// run by the client's own helper until the model answers in words.
import { zodFunction } from "openai/helpers/zod";
import { z } from "zod";
import { client, tell } from "./client.mjs";

const ran = [];
const weather = zodFunction({
  name: "weather",
  description: "The weather.",
  parameters: z.object({ city: z.enum(["Zug", "Chur"]) }),
  function: (given) => {
    ran.push(given);
    return "Fog.";
  },
});
const messages = [{ role: "user", content: "How is the weather in Zug?" }];
const wanted = { model: "base", messages, tools: [weather], max_tokens: 3 };

const whole = await client.chat.completions.create({ ...wanted, tool_choice: "required" });
const parsed = await client.chat.completions.parse(wanted);
const gathered = await client.chat.completions.stream(wanted).finalChatCompletion();
const runner = client.chat.completions.runTools(wanted);
const said = await runner.finalContent();
tell({
  whole: whole.choices[0],
  parsed: parsed.choices[0].message.tool_calls[0].function.parsed_arguments,
  gathered: gathered.choices[0].message.tool_calls[0].function,
  ran,
  said,
  roles: runner.messages.map((message) => message.role),
});
