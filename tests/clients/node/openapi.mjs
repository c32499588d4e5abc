// openapi-typescript and openapi-fetch: what they make of our document compiles, and is answered.

import assert from "node:assert";
import { execFileSync } from "node:child_process";
import { KEY, MODEL, TEXTS, URL, ask, check, embed } from "./known.mjs";

function run(script, ...rest) {
  execFileSync(process.execPath, [`node_modules/${script}`, ...rest], { stdio: "inherit" });
}

// With no options of its own, and the strictest of the compiler's.
run("openapi-typescript/bin/cli.js", `${URL}/openapi.json`, "-o", "openapi_schema.d.ts");
const modules = ["--target", "es2022", "--module", "nodenext"];
run("typescript/bin/tsc", "--strict", "--exactOptionalPropertyTypes", ...modules, "openapi_calls.ts");

const made = await import("./openapi_calls.js");
const found = await made.ask(URL, KEY, TEXTS);
assert.deepEqual(found.failed, []);
check(found.vectors, await embed(TEXTS));
const [{ masks }] = (await ask("/v1/fill-mask", { inputs: "The [MASK] rose." })).results;
check(
  found.candidates,
  masks[0].candidates.map((each) => each.token),
);
assert.equal(found.model, MODEL);
assert.deepEqual(found.codes, ["empty_input", "missing_field"]);
