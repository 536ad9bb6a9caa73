// A schema of zod's shapes the answer, which the client reads by the same schema.
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { client, tell } from "./client.mjs";

const City = z.object({ name: z.enum(["Tokyo", "Kyoto"]), inhabited: z.boolean() });
const answer = await client.chat.completions.parse({
  model: "base",
  messages: [{ role: "user", content: "Name the capital of Japan." }],
  response_format: zodResponseFormat(City, "city"),
  temperature: 0,
  max_tokens: 40,
});
tell({ parsed: answer.choices[0].message.parsed, content: answer.choices[0].message.content });
