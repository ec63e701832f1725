/** How far a pass over a table is: a bar on a terminal, nothing elsewhere. */
import { MultiBar } from 'cli-progress';
import { formatCount, formatDuration } from '../format.ts';
import type { Output } from '../io.ts';

export interface RowProgress {
  readonly update: (done: number, rows: number) => void;
  /** Takes the bar off the terminal. Safe to call twice. */
  readonly close: () => void;
}

export function rowProgress(stream: Output, what: string): RowProgress {
  if (!stream.isTTY) return { update: () => undefined, close: () => undefined };
  const begun = performance.now();
  let [done, rows] = [0, 0];
  const bars = new MultiBar({
    stream,
    format: () => rowsLine(what, done, rows, performance.now() - begun, stream.columns ?? 80),
    clearOnComplete: true,
    hideCursor: false, // as in training: a second signal ends the process at once
    linewrap: true,
    fps: 5,
    gracefulExit: false, // signals are ours
  });
  let open = true;
  bars.create(1, 0);
  return {
    update: (...now) => {
      [done, rows] = now;
    },
    close: () => {
      if (open) bars.stop();
      open = false;
    },
  };
}

/** `merging ━━━━━━────── 50% 2,000 of 4,000 rows 12 s left`, at most `columns - 1` wide. @param elapsed in ms */
export function rowsLine(what: string, done: number, rows: number, elapsed: number, columns: number): string {
  const share = rows === 0 ? 0 : done / rows;
  const left = share === 0 ? '' : ` ${formatDuration((elapsed / 1000) * (1 / share - 1))} left`;
  const filled = Math.round(share * 24);
  const bar = `${'━'.repeat(filled)}${'─'.repeat(24 - filled)}`;
  const counts = rows === 0 ? '' : ` ${formatCount(done)} of ${formatCount(rows)} rows${left}`;
  return `${what} ${bar} ${String(Math.floor(share * 100)).padStart(3)}%${counts}`.slice(0, Math.max(0, columns - 1));
}
