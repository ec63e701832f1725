// A wholesaler's baskets (UCI Online Retail II), cut by time: what the base table is made of, what it is adapted on, what
// chooses settings, and what is held out.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';

const cuts = ['2010-12-01', '2011-10-01', '2011-11-01'];
const leastBaskets = 5;
const mostItems = 60;

/** The file, or the end of the program with what is missing. */
export function findEvents(folder) {
  const path = join(folder ?? process.env.FINETABLE_DATA ?? 'data', 'online-retail/events.csv.gz');
  if (existsSync(path)) return path;
  console.error(`${path} is not there. It is UCI's Online Retail II (doi 10.24432/C5CG6D) as CSV, gzipped, with columns
Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer,Country; name its parent folder: --data DIR`);
  process.exit(2);
}

/**
 * Rows `[0, known)` are the items of the base's baskets, those from `known` to `rows` came after them.
 * @returns baskets as lists of rows, two or more in each, in order of time
 */
export function readBaskets(path) {
  const invoices = new Map();
  for (const line of gunzipSync(readFileSync(path)).toString('utf8').split('\n').slice(1)) {
    const [invoice, code] = line.split(',', 2);
    // The description may be quoted and hold commas; what follows it may not.
    const [quantity, date] = line.split(',').slice(-5, -3);
    if (!/^\d{5}[A-Za-z]{0,2}$/.test(code ?? '') || !(Number(quantity) > 0)) continue;
    let basket = invoices.get(invoice);
    if (!basket) invoices.set(invoice, (basket = { date, items: new Set() }));
    basket.items.add(code.toUpperCase());
  }
  const all = [...invoices.values()].sort((a, b) => (a.date < b.date ? -1 : a.date > b.date ? 1 : 0));
  const parts = [[], [], [], []];
  for (const basket of all) parts[cuts.filter((cut) => basket.date >= cut).length].push(basket);
  const frequent = (baskets) => {
    const counts = new Map();
    for (const { items } of baskets) for (const item of items) counts.set(item, (counts.get(item) ?? 0) + 1);
    return [...counts].filter(([, count]) => count >= leastBaskets).map(([item]) => item);
  };
  const rowOf = new Map(frequent(parts[0]).map((item, row) => [item, row]));
  const known = rowOf.size;
  for (const item of frequent(parts[1])) if (!rowOf.has(item)) rowOf.set(item, rowOf.size);
  const [base, adapt, validation, test] = parts.map((baskets, i) =>
    baskets
      .map(({ items }) =>
        [...items].map((item) => rowOf.get(item)).filter((row) => row < (i === 0 ? known : rowOf.size)),
      )
      .filter((items) => items.length >= 2 && items.length <= mostItems),
  );
  return { known, rows: rowOf.size, base, adapt, validation, test };
}
