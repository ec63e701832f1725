// A process that reads the batches of one file and nothing else; prints its resident memory over time. See sources.mjs.
import { openLoader } from '@finetable/data';

const [, , options] = process.argv;
const { spec, batchSize, shuffle } = JSON.parse(options);
const curve = [];
const resident = () => process.memoryUsage.rss() / 1e6;
const base = resident();
const begun = performance.now();
const sampling = setInterval(() => curve.push(resident()), 250);
const loader = await openLoader(spec, { batchSize, shuffle, workers: 2 });
const opened = (performance.now() - begun) / 1000;
let examples = 0;
for await (const { size } of loader.batches(0)) examples += size;
clearInterval(sampling);
const { sizeBytes } = loader.statistics;
await loader.close();
const seconds = (performance.now() - begun) / 1000;
console.log(JSON.stringify({ base, curve, opened, examples, sizeBytes, seconds }));
