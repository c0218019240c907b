// Build the live page: node docs/live/build.mjs FILES OUT. FILES is the folder that docs/live/models.py wrote.
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { buildSync } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url)), [files, out] = process.argv.slice(2);
const runtime = join(here, "node_modules", "onnxruntime-web");
const page = JSON.parse(readFileSync(join(files, "page.json"), "utf8"));

rmSync(out, { recursive: true, force: true });
mkdirSync(join(out, "assets"), { recursive: true });
for (const name of ["index.html", "style.css"]) cpSync(join(here, name), join(out, name));

const bundle = (options) =>
  buildSync({ bundle: true, minify: true, format: "iife", target: "es2022", legalComments: "inline", ...options });
bundle({
  entryPoints: [join(here, "src", "main.js")],
  outfile: join(out, "main.js"),
  define: { PAGE: JSON.stringify(page) },
});

// The two builds of ONNX Runtime. A thread starts from the same script, so the script has to know its own address.
const own = "var lgmOwnAddress = globalThis.document ? document.currentScript.src : location.href;";
const wasm = { wasm: "ort-wasm-simd-threaded.wasm", webgpu: "ort-wasm-simd-threaded.asyncify.wasm" };
for (const [name, file] of Object.entries(wasm)) {
  bundle({
    entryPoints: [join(runtime, "dist", `ort.${name}.bundle.min.mjs`)],
    outfile: join(out, `ort-${name}.js`),
    globalName: "ort",
    banner: { js: own },
    define: { "import.meta.url": "lgmOwnAddress" },
    logLevel: "error",
  });
  pack(`ort-${name}.wasm`, join(runtime, "dist", file));
}
for (const { name } of page.pictures) pack(name, join(files, name));
for (const name of ["glass-128", "glass-192", "plain-128", "int8-128", "lgm-det"]) pack(name, join(files, `${name}.onnx`));

// A binary file becomes a script, which browsers load also from a disk.
function pack(name, file) {
  const text = gzipSync(readFileSync(file), { level: 9 }).toString("base64");
  writeFileSync(join(out, "assets", `${name}.js`), `lgmAsset(${JSON.stringify(name)}, "${text}");\n`);
}
