import { openLoader } from '@finetable/data';
import { existsSync, mkdirSync, writeFileSync, openSync, writeSync, closeSync } from 'node:fs';
import { RandomStream } from '@finetable/core';
const V = 1_000_000, batchSize = 1024, wordsPerText = 12, epochBatches = 150;
const classes = Array.from({ length: 20 }, (_, c) => `class ${c}`);
const folder = '/tmp/load/waiting';
const vocabulary = `${folder}/words.txt`;
const files = { words: `${folder}/words.jsonl`, ids: `${folder}/ids.jsonl` };
if (!existsSync(folder)) {
  mkdirSync(folder);
  writeFileSync(vocabulary, Array.from({ length: V }, (_, v) => `word${v}\n`).join(''));
  const random = new RandomStream(1, 'texts');
  const [words, ids] = [openSync(files.words, 'w'), openSync(files.ids, 'w')];
  for (let i = 0, at = 0; i < epochBatches; i++) {
    let [texts, lists] = ['', ''];
    for (let j = 0; j < batchSize; j++) {
      const rows = Array.from({ length: wordsPerText }, () => Math.floor(V ** (random.below(at++, 2 ** 24) / 2 ** 24)));
      const label = classes[(i + j) % classes.length];
      texts += `${JSON.stringify({ text: rows.map((row) => `word${row}`).join(' '), label })}\n`;
      lists += `${JSON.stringify({ ids: rows, label })}\n`;
    }
    writeSync(words, texts); writeSync(ids, lists);
  }
  closeSync(words); closeSync(ids);
}
const features = { words: { table: 'words', column: 'text', tokens: { vocabulary } }, ids: { table: 'words', column: 'ids' } };
const which = (process.argv[2] ?? 'words,ids').split(',');
const cacheBytes = process.argv[3] === undefined ? undefined : Number(process.argv[3]);
for (const name of which) {
  const data = { source: { file: files[name] }, features: { input: features[name] }, labels: { label: { column: 'label', classes } }, tables: { words: { rows: V } } };
  const loader = await openLoader(data, { batchSize, workers: 0, shuffle: true, ...(cacheBytes !== undefined && { cacheBytes }) });
  for (let epoch = 0; epoch < 3; epoch++) {
    const b = loader.statistics, c = process.cpuUsage();
    for await (const _ of loader.batches(epoch));
    const a = loader.statistics, d = process.cpuUsage(c);
    const ms = (x) => ((1000 * x) / 150).toFixed(2);
    console.log(name, epoch, `cpu ${((d.user + d.system) / 1000 / 150).toFixed(2)} ms a batch; read ${ms(a.stages.readSeconds - b.stages.readSeconds)} extract ${ms(a.stages.extractSeconds - b.stages.extractSeconds)} plan ${ms(a.stages.planSeconds - b.stages.planSeconds)}`, Math.round(process.memoryUsage.rss() / 1e6));
  }
  await loader.close();
}
