/**
 * A lock on a run's folder: a file that names the process that holds it. The file is made with O_EXCL, so only one
 * process gets it; a lock whose process has ended (a kill leaves the file behind) is taken over.
 */
import { readFileSync } from 'node:fs';
import { link, open, readFile, rename, rm } from 'node:fs/promises';
import { hostname } from 'node:os';
import { FinetableError } from '@finetable/core';
import { ioError } from '@finetable/formats';

interface Holder {
  readonly pid: number;
  readonly host: string;
  /** Tells a process from a later one with the same pid; null where the system does not say. */
  readonly started: string | null;
}

/** Takes the lock. @returns a function that gives it back @throws LOCKED naming the process that holds it; IO */
export async function lockFolder(path: string): Promise<() => Promise<void>> {
  const own: Holder = { pid: process.pid, host: hostname(), started: startedAt(process.pid) };
  const text = JSON.stringify(own);
  for (let attempt = 0; attempt < 5; attempt++) {
    try {
      await writeNew(path, text);
      return async () => {
        if ((await readFile(path, 'utf8').catch(() => '')) === text) await rm(path, { force: true });
      };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw ioError(error, 'writing', path);
    }
    const found = await readFile(path, 'utf8').catch(() => null);
    if (found === null) continue; // given back just now
    const holder = parse(found);
    // An empty file is one whose maker was killed, or is about to write it: it gets a moment.
    if (!holder && attempt < 2) {
      await new Promise((resolve) => setTimeout(resolve, 100));
      continue;
    }
    if (holder && isAlive(holder)) {
      throw new FinetableError(
        'LOCKED',
        `${path}: process ${holder.pid} on ${holder.host} is working in this folder; wait for it, or choose another folder (--run)`,
        {
          file: path,
          pid: holder.pid,
        },
      );
    }
    await takeAway(path, found);
  }
  throw new FinetableError('LOCKED', `${path}: the lock is contended; try again`, { file: path });
}

/** A file that was not there before; none is left where it cannot be written. */
async function writeNew(path: string, text: string): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await file.writeFile(text);
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}

/** The living process that holds the lock, or null. */
export async function lockHolder(path: string): Promise<{ readonly pid: number; readonly host: string } | null> {
  const holder = parse(await readFile(path, 'utf8').catch(() => ''));
  return holder && isAlive(holder) ? { pid: holder.pid, host: holder.host } : null;
}

/** Removes a dead process's lock, unless another has replaced it since it was read. */
async function takeAway(path: string, stale: string): Promise<void> {
  const aside = `${path}.stale-${process.pid}`;
  try {
    await rename(path, aside);
  } catch {
    return; // somebody else was first
  }
  // Renamed a living lock by a hair's breadth: put it back (fails, as it should, where a third one is there already).
  if ((await readFile(aside, 'utf8')) !== stale) await link(aside, path).catch(() => undefined);
  await rm(aside, { force: true });
}

function parse(text: string): Holder | null {
  try {
    return JSON.parse(text) as Holder;
  } catch {
    return null;
  }
}

function isAlive({ pid, host, started }: Holder): boolean {
  if (host !== hostname()) return true; // cannot be known from here
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  return started === null || startedAt(pid) === null || startedAt(pid) === started;
}

/** Field 22 of /proc/<pid>/stat: start time in clock ticks since boot. */
function startedAt(pid: number): string | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? null;
  } catch {
    return null;
  }
}
