/** Runs the built command line as a process of its own. */
import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Ended } from './capture.ts';

export const cliPath = fileURLToPath(new URL('../../bin/finetable.js', import.meta.url));

export interface Child {
  readonly process: ChildProcess;
  /** What it has written so far. */
  output(): { readonly stdout: string; readonly stderr: string };
  readonly ended: Promise<Ended & { readonly signal: NodeJS.Signals | null }>;
}

export function start(argv: readonly string[]): Child {
  const child = spawn(process.execPath, [cliPath, ...argv], { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  return {
    process: child,
    output: () => ({ stdout, stderr }),
    ended: new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (status, signal) => resolve({ status, signal, stdout, stderr }));
    }),
  };
}

/** Whether `child` wrote `text`: true as soon as it has, false when it ends without. */
export async function hasWritten(child: Child, stream: 'stdout' | 'stderr', text: string): Promise<boolean> {
  const seen = (): boolean => child.output()[stream].includes(text);
  if (seen()) return true;
  return new Promise((resolve) => {
    child.process[stream]!.on('data', () => seen() && resolve(true));
    void child.ended.then(() => resolve(seen()));
  });
}
