// Runs a TensorFlow.js graph model in Node on raw float64 examples and writes its answers as raw float32,
// a file for each output.
"use strict";
const fs = require("fs");
const path = require("path");

const request = JSON.parse(process.argv[2]);
const load = require("module").createRequire(path.join(path.resolve(request.packages), "package.json"));
console.warn = () => {};  // tfjs advises tfjs-node, which downloads a binary of its own
const quiet = console.info;
console.info = () => {};
const tf = load("@tensorflow/tfjs");

function artifacts(file) {
  const about = JSON.parse(fs.readFileSync(file, "utf8"));
  const specs = [];
  const parts = [];
  for (const group of about.weightsManifest) {
    specs.push(...group.weights);
    for (const name of group.paths) parts.push(fs.readFileSync(path.join(path.dirname(file), name)));
  }
  const bytes = Buffer.concat(parts);
  const weightData = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  return {
    modelTopology: about.modelTopology, format: about.format, signature: about.signature,
    userDefinedMetadata: about.userDefinedMetadata, modelInitializer: about.modelInitializer,
    weightSpecs: specs, weightData,
  };
}

function plain(node) {
  return node.replace(/:0$/, "");
}

// The tensor of an input, by its name in the signature; an only input may have another name.
function readInput(model, given) {
  const named = (model.modelSignature || {}).inputs || {};
  const wanted = named[given.name] ? plain(named[given.name].name) : null;
  const found = model.inputs.find((input) => plain(input.name) === wanted) || model.inputs[0];
  if (wanted === null && model.inputs.length > 1) throw new Error(`the model has no input ${given.name}`);
  const whole = found.dtype === "int32";
  const bytes = fs.readFileSync(given.file);
  const values = new Float64Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  const rest = given.shape.slice(1);
  const size = rest.reduce((product, each) => product * each, 1);
  const batch = (from, to) => {
    const part = (whole ? Int32Array : Float32Array).from(values.subarray(from * size, to * size));
    return tf.tensor(part, [to - from, ...rest], whole ? "int32" : "float32");
  };
  return { node: found.name, batch };
}

// Pairs of the name in the signature and the node; saman's first output first, the others by name.
function outputNames(model) {
  const named = Object.entries((model.modelSignature || {}).outputs || {}).map(([name, about]) => [name, about.name]);
  if (named.length < 2) return [[request.first, model.outputs[0].name]];
  return named.sort(([a], [b]) => (b === request.first) - (a === request.first) || (a < b ? -1 : 1));
}

async function main() {
  await tf.setBackend("cpu");
  const model = await tf.loadGraphModel({ load: async () => artifacts(request.model) });
  const count = request.inputs[0].shape[0];
  const inputs = request.inputs.map((given) => readInput(model, given));
  const names = outputNames(model);
  const answer = async (from, to) => {
    const batch = Object.fromEntries(inputs.map((input) => [input.node, input.batch(from, to)]));
    const found = [await model.executeAsync(batch, names.map(([, node]) => node))].flat();
    const rows = await Promise.all(found.map(async (tensor) => Float32Array.from(await tensor.data())));
    const shapes = found.map((tensor) => tensor.shape);
    tf.dispose([batch, found]);
    return [rows, shapes];
  };
  const pieces = names.map(() => []);
  let last = names.map(() => []);
  for (let from = 0; from < count; from += request.batch) {
    const [rows, shapes] = await answer(from, Math.min(count, from + request.batch));
    rows.forEach((data, at) => pieces[at].push(Buffer.from(data.buffer, data.byteOffset, data.byteLength)));
    last = shapes;
  }
  pieces.forEach((parts, at) => fs.writeFileSync(`${request.output}.${at}`, Buffer.concat(parts)));
  const taken = [];
  for (let run = -3; run < request.latencyRuns && count; run += 1) {
    const start = process.hrtime.bigint();
    await answer(0, 1);
    if (run >= 0) taken.push(Number(process.hrtime.bigint() - start) / 1e6);
  }
  taken.sort((a, b) => a - b);
  const report = {
    runtime: `@tensorflow/tfjs ${tf.version.tfjs} (cpu) in Node ${process.version}`,
    outputs: names.map(([name], at) => ({ name, shape: [count, ...last[at].slice(1)] })),
    latencyMilliseconds: taken.length ? taken[Math.floor(taken.length / 2)] : null,
  };
  process.stdout.write(JSON.stringify(report) + "\n");
}

main().catch((error) => { process.stderr.write(`${error.message || error}\n`); process.exit(1); });
