// Pixels as gloam sees them: JPEG by sharp (libvips, whose JPEG library decodes as libjpeg-turbo), PPM, Pillow's LANCZOS.
import { readFile } from "node:fs/promises";

import sharp from "sharp";

export const SMALLEST_SIDE = 32;
const BITS = 22; // weights are whole numbers of 2^-22, as Pillow's

/** The image of a JPEG or binary PPM file: { width, height, pixels }, RGB with rows from the top. */
export async function decode(path, upright) {
  const bytes = await readFile(path);
  if (bytes.subarray(0, 2).toString("latin1") === "P6") return decodePpm(bytes);
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) throw new Error("neither JPEG nor binary PPM");
  const stored = sharp(bytes, { failOn: "truncated", ignoreIcc: true, limitInputPixels: 120_000_000 });
  if ((await stored.metadata()).space === "cmyk")
    throw new Error("a JPEG of four inks, which this program does not mix; convert it to RGB");
  const { data, info } = await (upright ? stored.rotate() : stored).toColourspace("srgb").removeAlpha().raw().toBuffer({
    resolveWithObject: true,
  });
  return { width: info.width, height: info.height, pixels: new Uint8Array(data) };
}

function decodePpm(bytes) {
  const head = /^P6\s+(\d+)\s+(\d+)\s+255\s/.exec(bytes.subarray(0, 64).toString("latin1"));
  if (head === null) throw new Error("no binary PPM of 8 bits");
  const [width, height] = [Number(head[1]), Number(head[2])];
  const pixels = new Uint8Array(bytes.subarray(head[0].length, head[0].length + width * height * 3));
  if (pixels.length < width * height * 3 || !pixels.length) throw new Error("corrupt or truncated");
  return { width, height, pixels };
}

/** An image whose longer side is at most `most`, as Pillow's thumbnail reduces it by LANCZOS. */
export function reduced({ width, height, pixels }, most) {
  if (Math.max(width, height) <= most) return { width, height, pixels };
  const wide = width >= height;
  const side = (most * Math.min(width, height)) / Math.max(width, height);
  const off = (other) => Math.abs(width / height - (wide ? most / other : other / most));
  const [low, high] = [Math.max(Math.floor(side), 1), Math.ceil(side)];
  const other = off(low) <= off(high) ? low : high;
  const size = wide ? [most, other] : [other, most];
  const across = size[0] === width ? pixels : pass(pixels, width, size[0], height, width * 3, 3, size[0] * 3);
  const down = size[1] === height ? across : pass(across, height, size[1], size[0], 3, size[0] * 3, 3);
  return { width: size[0], height: size[1], pixels: down };
}

/** One pass from `from` to `to` pixels along an axis whose neighbours are `step` bytes apart, and its lines `line`. */
function pass(source, from, to, lines, line, step, madeLine) {
  const sinc = (x) => (x === 0 ? 1 : Math.sin(x * Math.PI) / (x * Math.PI));
  const scale = from / to;
  const support = 3 * Math.max(scale, 1);
  const shrink = 1 / Math.max(scale, 1);
  const made = new Uint8Array(to * lines * 3);
  for (let at = 0; at < to; at++) {
    const centre = (at + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const last = Math.min(Math.trunc(centre + support + 0.5), from);
    const weights = Array.from({ length: last - first }, (_, i) => {
      const x = (i + first - centre + 0.5) * shrink;
      return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
    });
    const sum = weights.reduce((total, weight) => total + weight, 0);
    const whole = weights.map((weight) => {
      const share = (weight / sum) * 2 ** BITS;
      return Math.trunc(share < 0 ? share - 0.5 : share + 0.5);
    });
    for (let row = 0; row < lines; row++)
      for (let c = 0; c < 3; c++) {
        let total = 2 ** (BITS - 1);
        for (let i = first; i < last; i++) total += source[row * line + i * step + c] * whole[i - first];
        made[row * madeLine + at * step + c] = Math.min(Math.max(total >> BITS, 0), 255);
      }
  }
  return made;
}
