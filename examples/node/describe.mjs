// node describe.mjs MODEL.onnx [IMAGE.jpg|IMAGE.ppm ...]: reads the model's card, runs its self-test, prints a line of JSON
// an image. Exit code 1 where the model or an image cannot be used, each with a line on stderr.
import { readFile } from "node:fs/promises";

import ort from "onnxruntime-node";

import { readCard } from "./card.mjs";
import { decode } from "./image.mjs";

const [path, ...images] = process.argv.slice(2);

function complain(where, error) {
  console.error(`${where}: ${String(error.message ?? error).split("\n")[0]}`);
  process.exitCode = 1;
}

async function main() {
  const bytes = await readFile(path);
  const card = readCard(bytes);
  const session = await ort.InferenceSession.create(bytes);
  const { name: output } = card.json.outputs[0];

  async function describe({ count, height, width, images, sizes }) {
    const feeds = { images: new ort.Tensor("uint8", images, [count, height, width, 3]) };
    if (card.fixed) feeds.sizes = new ort.Tensor("int32", sizes, [count, 2]);
    return (await session.run(feeds, [output]))[output].data;
  }

  const difference = await card.selftest(describe);
  console.log(JSON.stringify({ model: card.json.name, selftest: difference, tolerance: card.tolerance }));
  for (const file of images) {
    try {
      const descriptor = await describe(card.prepare(await decode(file, card.upright)));
      console.log(JSON.stringify({ file, descriptor: Array.from(descriptor) }));
    } catch (error) {
      complain(file, error);
    }
  }
}

if (path === undefined) {
  console.error("usage: node describe.mjs MODEL.onnx [IMAGE.jpg|IMAGE.ppm ...]");
  process.exitCode = 2;
} else {
  await main().catch((error) => complain(path, error));
}
