/** Memory that this process may use: the machine's, or less where a control group (a container, a batch system) sets a limit. */
import { readFileSync } from 'node:fs';
import { freemem, totalmem } from 'node:os';
import { dirname, join } from 'node:path';

/** The memory of the machine and what this process may have of it, in bytes. */
export interface SystemMemory {
  readonly totalBytes: number;
  /** Not in use now; what the system could take back from its file cache counts as free. */
  readonly freeBytes: number;
  /** Which of them sets the total. */
  readonly limit: 'machine' | 'control group';
}

/**
 * What there is now; in a container its limits count.
 * @param root for tests: a folder that stands for `/`; with the machine's own numbers
 */
export function systemMemory(root = '/', machine = { totalBytes: totalmem(), freeBytes: freemem() }): SystemMemory {
  let memory: SystemMemory = { ...machine, limit: 'machine' };
  for (const { folder, files } of controlGroups(root)) {
    const limit = readBytes(join(folder, files.limit));
    if (limit === null || limit >= machine.totalBytes) continue; // "max", or v1's huge number for no limit
    const cache = readStat(join(folder, 'memory.stat'), files.inactiveFile);
    const used = Math.max(0, (readBytes(join(folder, files.usage)) ?? 0) - cache);
    const freeBytes = Math.min(memory.freeBytes, Math.max(0, limit - used));
    memory =
      limit < memory.totalBytes ? { totalBytes: limit, freeBytes, limit: 'control group' } : { ...memory, freeBytes };
  }
  return memory;
}

const v2 = { limit: 'memory.max', usage: 'memory.current', inactiveFile: 'inactive_file' };
const v1 = { limit: 'memory.limit_in_bytes', usage: 'memory.usage_in_bytes', inactiveFile: 'total_inactive_file' };

/** The process's group and all above it: every limit holds. In a container only the mount's own root may be visible. */
function* controlGroups(root: string): Generator<{ folder: string; files: typeof v2 }> {
  for (const line of (readText(join(root, 'proc/self/cgroup')) ?? '').split('\n')) {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) continue;
    const memory = controllers.split(',').includes('memory');
    if (controllers !== '' && !memory) continue;
    const mount = join(root, 'sys/fs/cgroup', memory ? 'memory' : '');
    for (let at = path; ; at = dirname(at)) {
      yield { folder: join(mount, at), files: memory ? v1 : v2 };
      if (at === '/') break;
    }
  }
}

function readText(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null; // another system, or hidden
  }
}

function readBytes(path: string): number | null {
  const text = readText(path)?.trim() ?? '';
  return /^\d+$/.test(text) ? Number(text) : null;
}

function readStat(path: string, field: string): number {
  const value = new RegExp(`^${field} (\\d+)$`, 'm').exec(readText(path) ?? '')?.[1];
  return Number(value ?? 0);
}
