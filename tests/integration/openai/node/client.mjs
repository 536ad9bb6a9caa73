// The published client as it is, with address and key from where it looks for them itself: OPENAI_BASE_URL and
// OPENAI_API_KEY. It does not repeat by itself here, so that what fails once is seen.
import OpenAI from "openai";

export const client = new OpenAI({ maxRetries: 0, timeout: 240_000 });

/** What a flow found, for the test that started it. */
export function tell(found) {
  console.log(JSON.stringify(found));
}
