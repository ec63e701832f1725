// Makes what the jobs name, in `out`: items.txt (line i is the product of row i, those that were sold before the cut first), how often
// each is a target (counts-base.npy, counts-train.npy), and base.jsonl, train.jsonl, valid.jsonl, test.jsonl of lines {"history": rows, "next": row, "product": "old" or "new"}.
//   node examples/next-purchase/prepare.mjs [--data DIR]
import { createReadStream } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { createGunzip } from 'node:zlib';
import { parse } from 'csv-parse';
import { matrix, permutation, RandomStream, writeNpy } from 'finetable';
import { findData } from '../data.mjs';

export const work = fileURLToPath(new URL('../../.cache/next-purchase', import.meta.url));
export const dim = 64;

/** Where each part ends: the base learns from what comes before the cut, adapters from the weeks after it. */
const ends = { base: '2011-08-01', train: '2011-11-01', valid: '2011-11-15', test: '2012-01-01' };
const historyLength = 30;
const targetsPerInvoice = 10;

/** @param {{ data?: string, out?: string, invoices?: number }} options `invoices`: about so many of them, from all weeks; default all */
export async function prepare({ data, out = work, invoices: most = Infinity } = {}) {
  const folder = findData('the invoices of Online Retail II', ['online-retail/events.csv.gz'], data);
  await mkdir(out, { recursive: true });
  const { invoices, firstSold } = await readInvoices(`${folder}/online-retail/events.csv.gz`);

  const products = [...firstSold.keys()];
  const rowOf = new Map(products.map((product, row) => [product, row]));
  const oldRows = products.filter((product) => firstSold.get(product) < ends.base).length;
  await writeFile(`${out}/items.txt`, products.map((product) => `${product}\n`).join(''));

  const every = Math.max(1, Math.floor(invoices.length / most));
  const lines = Object.fromEntries(Object.keys(ends).map((part) => [part, []]));
  const counts = { base: new Float64Array(oldRows), train: new Float64Array(products.length) };
  const histories = new Map();
  for (const [i, { date, customer, products: bought }] of invoices.entries()) {
    const part = Object.keys(ends).find((name) => date < ends[name]);
    const rows = bought.map((product) => rowOf.get(product));
    const history = histories.get(customer) ?? [];
    if (customer !== '' && history.length > 0 && i % every === 0) {
      const chosen = permutation(rows.length, i, 'next-purchase/targets').subarray(0, targetsPerInvoice);
      for (const place of chosen) {
        const next = rows[place];
        if (part in counts) counts[part][next]++;
        const kind = next < oldRows ? 'old' : 'new';
        lines[part].push(`${JSON.stringify({ history, next, product: kind })}\n`);
      }
    }
    histories.set(customer, [...new Set([...rows, ...history])].slice(0, historyLength));
  }
  for (const [part, own] of Object.entries(lines)) await writeFile(`${out}/${part}.jsonl`, own.join(''));
  for (const [part, own] of Object.entries(counts))
    await writeNpy(`${out}/counts-${part}.npy`, { dtype: 'F64', shape: [own.length], data: own });

  // What the base begins with.
  const start = matrix(oldRows, dim);
  new RandomStream(1, 'next-purchase/items').fillNormal(start.data, 0.1);
  await writeNpy(`${out}/random.npy`, { dtype: 'F32', shape: [oldRows, dim], data: start.data });
  const examples = Object.fromEntries(Object.entries(lines).map(([part, own]) => [part, own.length]));
  return { oldRows, newRows: products.length - oldRows, examples };
}

/** Invoices by time, each with its products once; products in the order in which they were first sold. */
async function readInvoices(file) {
  const records = createReadStream(file).pipe(createGunzip()).pipe(parse());
  const invoices = new Map();
  const firstSold = new Map();
  for await (const [invoice, code, , quantity, date, , customer] of records) {
    const product = code.toUpperCase();
    if (!(Number(quantity) > 0) || !/^\d{5}/.test(product)) continue; // returned, or POST, M, DOT: no product
    if (!firstSold.has(product)) firstSold.set(product, date);
    if (!invoices.has(invoice)) invoices.set(invoice, { date, customer, products: new Set() });
    invoices.get(invoice).products.add(product);
  }
  const ordered = [...invoices.values()].map((invoice) => ({ ...invoice, products: [...invoice.products] }));
  return { invoices: ordered.sort((a, b) => (a.date < b.date ? -1 : Number(a.date > b.date))), firstSold };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { data: { type: 'string' } } });
  console.log(await prepare(values));
}
