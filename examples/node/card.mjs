// A gloam model card: what it says of the input, and its self-test by formula. docs/model-card.md has the words.
import protobuf from "protobufjs";

import { reduced, SMALLEST_SIDE } from "./image.mjs";

// All of an ONNX file but its metadata is skipped.
const MODEL = protobuf.parse(`syntax = "proto2";
  message Entry { optional string key = 1; optional string value = 2; }
  message Model { repeated Entry metadata = 14; }`).root.lookupType("Model");

/** The card of a model file's bytes, of an embedder alone or behind a translator inside the graph. */
export function readCard(bytes) {
  let entries;
  try {
    entries = MODEL.decode(bytes).metadata.filter(({ key }) => key === "gloam.card");
  } catch (error) {
    throw new Error(`no readable ONNX model, or truncated (${error.message})`);
  }
  if (entries.length !== 1) throw new Error("an ONNX file without a gloam model card; export it with gloam export");
  return new Card(entries[0].value);
}

/** ((sum of terms) // floor % modulo + add) * times / over; every number stays under 2^53, where doubles are exact. */
function valueOf(formula, variables) {
  let sum = 0;
  for (const [letters, factor] of Object.entries(formula.terms)) {
    let product = factor;
    for (const letter of letters) product *= variables[letter];
    sum += product;
  }
  return (((Math.floor(sum / formula.floor) % formula.modulo) + formula.add) * formula.times) / formula.over;
}

export class Card {
  constructor(text) {
    try {
      this.json = JSON.parse(text);
    } catch {
      throw new Error("the model card is no JSON; export the model again");
    }
    const { schema, kind, photometric, translate, selftest, selftest_formula: formula, profile } = this.json ?? {};
    if (schema !== 1) throw new Error(`model card of schema ${JSON.stringify(schema)}, this program reads 1; take a newer one`);
    if (!["embedder", "fused"].includes(kind)) throw new Error(`a model of kind '${kind}'; this program runs embedders`);
    if (photometric.name !== "none" && !photometric.baked)
      throw new Error("the caller has to apply CLAHE first; export the model with --bake-clahe");
    if (kind === "embedder" && translate !== undefined)
      throw new Error("the caller has to translate images first; fuse both with gloam export --translate");
    if (!selftest || !formula) throw new Error("the model card states no self-test by formula; export the model again");
    if (formula.digest !== "rows" || !formula.images) throw new Error("a self-test that is none of descriptors");
    this.fixed = profile.kind === "fixed";
    if (this.fixed && (profile.next_only || profile.pad_mode !== "zero"))
      throw new Error("a fixed profile that reflects images; export the model with the dynamic one");
  }

  get tolerance() {
    return this.json.selftest.tolerance[this.json.precision] ?? 0;
  }

  get upright() {
    return (this.json.decoding?.orientation ?? "upright") === "upright";
  }

  /** A decoded image as the graph takes it: resized by the input rule, and placed in a shape of the profile. */
  prepare(decoded) {
    const { input_rule: rule, resize, profile } = this.json;
    if (rule?.stretch) throw new Error("the caller has to stretch images by OpenCV's INTER_AREA, which this program does not");
    if (rule && ((rule.multiple ?? 1) !== 1 || !["lanczos", "none"].includes(rule.filter)))
      throw new Error("the caller has to resize images by its network's authors' rule, which this program does not");
    const most = resize !== undefined ? null : rule === undefined ? 1024 : rule.max_side;
    const image = most === null ? decoded : reduced(decoded, most);
    const least = Math.max(SMALLEST_SIDE, profile.minimum ?? 1);
    if (Math.min(image.width, image.height) < least)
      throw new Error(`the image is too small; its sides must be ${least} px or more`);
    const sizes = Int32Array.of(image.height, image.width);
    if (!this.fixed) return { count: 1, height: image.height, width: image.width, images: image.pixels, sizes };
    const [height, width] = [
      [profile.heights, image.height],
      [profile.widths, image.width],
    ].map(([sides, side]) => sides.find((each) => each >= side));
    if (!height || !width) throw new Error("the image is larger than the model's largest shape");
    const images = new Uint8Array(height * width * 3);
    for (let row = 0; row < image.height; row++)
      images.set(image.pixels.subarray(row * image.width * 3, (row + 1) * image.width * 3), row * width * 3);
    return { count: 1, height, width, images, sizes };
  }

  /** Runs the self-tests by a function from a batch to descriptors, and gives the largest difference. */
  async selftest(run) {
    let worst = 0;
    for (const test of [this.json.selftest, this.json.selftest_larger]) {
      if (!test) continue;
      const found = await run(this.#fed(test));
      if (found.length !== test.output.length) throw new Error("the self-test gave another number of values");
      for (const [at, value] of found.entries()) {
        const difference = Math.abs(value - test.output[at]);
        worst = Number.isFinite(difference) ? Math.max(worst, difference) : Infinity;
      }
    }
    if (!(worst <= this.tolerance))
      throw new Error(`the self-test failed: it differs by ${worst}, ${this.tolerance} is allowed; export the model again`);
    return worst;
  }

  #fed({ shape: [count, height, width], sizes }) {
    const { images: formula, beyond } = this.json.selftest_formula;
    const images = new Uint8Array(count * height * width * 3);
    let at = 0;
    for (let b = 0; b < count; b++)
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++)
          for (let c = 0; c < 3; c++)
            images[at++] = y < sizes[b][0] && x < sizes[b][1] ? valueOf(formula, { b, y, x, c }) : beyond;
    return { count, height, width, images, sizes: Int32Array.from(sizes.flat()) };
  }
}
