// Runs a TensorFlow.js graph model in Node on raw float32 examples and writes its answers as raw float32.
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

async function main() {
  await tf.setBackend("cpu");
  const model = await tf.loadGraphModel({ load: async () => artifacts(request.model) });
  const bytes = fs.readFileSync(request.inputs);
  const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const [count, ...rest] = request.shape;
  const size = rest.reduce((product, each) => product * each, 1);
  const dtype = model.inputs[0].dtype === "int32" ? "int32" : "float32";
  const batch = (from, to) => tf.tensor(values.slice(from * size, to * size), [to - from, ...rest], dtype);
  const answer = async (from, to) => {
    const input = batch(from, to);
    let output = await model.executeAsync({ [model.inputs[0].name]: input });
    if (Array.isArray(output)) output = output[0];
    const data = Float32Array.from(await output.data());
    const shape = output.shape;
    tf.dispose([input, output]);
    return [data, shape];
  };
  const pieces = [];
  let last = [];
  for (let from = 0; from < count; from += request.batch) {
    const [data, shape] = await answer(from, Math.min(count, from + request.batch));
    pieces.push(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
    last = shape;
  }
  fs.writeFileSync(request.output, Buffer.concat(pieces));
  const taken = [];
  for (let run = -3; run < request.latencyRuns && count; run += 1) {
    const start = process.hrtime.bigint();
    await answer(0, 1);
    if (run >= 0) taken.push(Number(process.hrtime.bigint() - start) / 1e6);
  }
  taken.sort((a, b) => a - b);
  const report = {
    runtime: `@tensorflow/tfjs ${tf.version.tfjs} (cpu) in Node ${process.version}`,
    shape: [count, ...last.slice(1)],
    latencyMilliseconds: taken.length ? taken[Math.floor(taken.length / 2)] : null,
  };
  process.stdout.write(JSON.stringify(report) + "\n");
}

main().catch((error) => { process.stderr.write(`${error.message || error}\n`); process.exit(1); });
