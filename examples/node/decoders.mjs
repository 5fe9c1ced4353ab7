// node decoders.mjs FOLDER IMAGE.jpg ...: unpacks JPEGs by sharp and by jpeg-js into FOLDER/sharp and FOLDER/jpeg-js, as PPM,
// so that decoders can be compared.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";

import jpeg from "jpeg-js";

import { decode } from "./image.mjs";

const [folder, ...files] = process.argv.slice(2);

async function write(decoder, file, { width, height, pixels }) {
  await mkdir(join(folder, decoder), { recursive: true });
  const name = `${basename(file).replace(/\.[^.]*$/, "")}.ppm`;
  await writeFile(join(folder, decoder, name), Buffer.concat([Buffer.from(`P6\n${width} ${height}\n255\n`), pixels]));
}

for (const file of files) {
  await write("sharp", file, await decode(file, false));
  const { width, height, data } = jpeg.decode(await readFile(file), { useTArray: true, maxMemoryUsageInMB: 2048 });
  await write("jpeg-js", file, { width, height, pixels: data.filter((_, at) => at % 4 !== 3) });
}
