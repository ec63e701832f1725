// Rows as people read them: on the terminal while they come, and in docs/benchmarks.md, where each command owns its own part.
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { medianOf, ratios, summary } from './measure.mjs';

const file = fileURLToPath(new URL('../../docs/benchmarks.md', import.meta.url));
const round = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));
const milliseconds = (time) => `${time.toPrecision(3)} ms`;

export class Report {
  #sections = [];

  section(title, about) {
    this.#sections.push({ title, about, rows: [], remarks: [] });
    console.log(`\n${title}\n${about}`);
  }

  /** A row of any unit; `goal` is {atLeast} or {atMost}. */
  value(what, against, values, unit, goal, note = '') {
    const { low, median, high } = summary(values);
    const spread = round(low) === round(high) ? '' : ` (${round(low)} to ${round(high)})`;
    this.#add({ what, against, measured: `${round(median)}${unit}${spread}`, ...judge(median, unit, goal), note });
  }

  /** How many times as long `times` took as `reference`. */
  timeRatio(what, against, times, reference, goal) {
    this.value(what, against, ratios(times, reference), 'x', goal, pair(times, reference));
  }

  /** How many times as fast as `reference`, which is above 1 where it took longer. */
  speedRatio(what, against, times, reference, goal) {
    this.value(what, against, ratios(reference, times), 'x', goal, pair(times, reference));
  }

  /** A sentence below the table. */
  remark(text) {
    this.#sections.at(-1).remarks.push(text);
    console.log(`      ${text}`);
  }

  missing(what, against, reason) {
    this.#add({ what, against, measured: 'not measured', goal: '', verdict: '', note: reason });
  }

  #add(row) {
    this.#sections.at(-1).rows.push(row);
    const verdict = [row.goal, row.verdict].filter(Boolean).join(': ');
    console.log(`  ${row.what} | ${row.against}`);
    console.log(`      ${row.measured.padEnd(28)}${verdict.padEnd(30)}${row.note}`);
  }

  /** Writes this command's part of the file; the rest of it stays. */
  write(part, heading) {
    const lines = [heading];
    for (const { title, about, rows, remarks } of this.#sections) {
      lines.push(
        `### ${title}`,
        '',
        about,
        '',
        '| what | against | measured (quartiles) | goal | | |',
        '|---|---|---|---|---|---|',
      );
      for (const { what, against, measured, goal, verdict, note } of rows)
        lines.push(`| ${[what, against, measured, goal, verdict, note].join(' | ')} |`);
      lines.push('', ...remarks.flatMap((text) => [text, '']));
    }
    const text = readFileSync(file, 'utf8');
    const owned = new RegExp(`(<!-- ${part} -->\n)[^]*(<!-- /${part} -->)`);
    if (!owned.test(text)) throw new Error(`${file} has lost its "<!-- ${part} -->" marks`);
    writeFileSync(
      file,
      text.replace(owned, (_, begin, end) => `${begin}\n${lines.join('\n')}\n${end}`),
    );
    console.log(`\nwritten to ${file}`);
  }
}

const pair = (times, reference) => `${milliseconds(medianOf(times))} : ${milliseconds(medianOf(reference))}`;

function judge(median, unit, goal) {
  if (!goal) return { goal: '', verdict: '' };
  const least = goal.atLeast !== undefined;
  const wanted = least ? goal.atLeast : goal.atMost;
  const reached = least ? median >= wanted : median <= wanted;
  const off = least ? 1 - median / wanted : median / wanted - 1;
  return {
    goal: `${least ? '≥' : '≤'} ${wanted}${unit}`,
    verdict: reached ? 'reached' : `missed by ${Math.max(1, Math.round(off * 100))} %`,
  };
}
