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

/** Resolves when `child` has written `text` to stderr; rejects when it ended without. */
export async function whenWritten(child: Child, text: string): Promise<void> {
  const seen = (): boolean => child.output().stderr.includes(text);
  if (seen()) return;
  await new Promise<void>((resolve, reject) => {
    child.process.stderr!.on('data', () => seen() && resolve());
    void child.ended.then(({ status, stderr }) => reject(new Error(`ended with ${status} before "${text}": ${stderr}`)));
  });
}
