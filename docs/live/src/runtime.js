// ONNX Runtime in the browser. Its WebAssembly file and the networks lie as gzipped base64 text in scripts: browsers
// load scripts beside a page also from a disk, where they refuse to fetch other files.

const waiting = new Map();

globalThis.lgmAsset = (name, text) => waiting.get(name).resolve(unpack(text));

export async function loadAsset(name) {
  if (!waiting.has(name)) {
    const entry = Promise.withResolvers?.() ?? withResolvers();
    waiting.set(name, entry);
    loadScript(`assets/${name}.js`).catch(entry.reject);
  }
  return waiting.get(name).promise;
}

function withResolvers() {
  const entry = {};
  entry.promise = new Promise((resolve, reject) => Object.assign(entry, { resolve, reject }));
  return entry;
}

function loadScript(src) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = src;
    script.onload = resolve;
    script.onerror = () => reject(new Error(`${src} is missing beside this page; build it again with make live`));
    document.head.append(script);
  });
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function hasWebGPU() {
  try {
    return Boolean(await navigator.gpu?.requestAdapter());
  } catch {
    return false;
  }
}

// Threads of WebAssembly share memory, which browsers allow only to isolated pages (headers COOP and COEP).
const threads = globalThis.crossOriginIsolated ? Math.min(4, Math.ceil((navigator.hardwareConcurrency || 2) / 2)) : 1;
const NAMES = { wasm: `WebAssembly (SIMD, ${threads} ${threads > 1 ? "threads" : "thread"})`, webgpu: "WebGPU" };

export class Runtime {
  // Load ONNX Runtime: with WebGPU where the browser has it, else the smaller file.
  static async open() {
    const runtime = new Runtime();
    runtime.providers = (await hasWebGPU()) ? ["webgpu", "wasm"] : ["wasm"];
    runtime.provider = runtime.providers[0];
    runtime.sessions = new Map();
    await loadScript(`ort-${runtime.provider}.js`);
    ort.env.wasm.numThreads = threads;
    ort.env.logLevel = "error";
    ort.env.wasm.wasmBinary = (await loadAsset(`ort-${runtime.provider}.wasm`)).buffer;
    return runtime;
  }

  get name() {
    return NAMES[this.provider];
  }

  // Return the session of one of the page's networks. If WebGPU cannot open it, WebAssembly does from then on.
  async session(name) {
    const key = `${name} ${this.provider}`;
    if (!this.sessions.has(key)) this.sessions.set(key, this.openSession(await loadAsset(name)));
    return this.sessions.get(key);
  }

  async openSession(bytes) {
    try {
      return await ort.InferenceSession.create(bytes, { executionProviders: [this.provider], logSeverityLevel: 3 });
    } catch (error) {
      if (this.provider === "wasm") throw error;
      this.provider = "wasm";
      return ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    }
  }

  // Run a session; inputs are {name: [numbers, shape]}. Return {name: {data, dims}} of the outputs asked for.
  async run(session, inputs, outputs) {
    const feeds = {};
    for (const [name, [data, dims]] of Object.entries(inputs)) feeds[name] = new ort.Tensor("float32", data, dims);
    const found = await session.run(feeds, outputs ?? session.outputNames);
    return Object.fromEntries(Object.entries(found).map(([name, { data, dims }]) => [name, { data, dims }]));
  }
}
