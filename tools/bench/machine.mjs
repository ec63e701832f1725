// What a measurement depends on, for its heading.
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os';
import { formatBytes } from '@finetable/core';
import { loadKernels } from '@finetable/kernels';

const read = (path) => (existsSync(path) ? readFileSync(path, 'utf8').trim() : '');

function caches() {
  const found = [];
  for (let index = 0; ; index++) {
    const folder = `/sys/devices/system/cpu/cpu0/cache/index${index}/`;
    const type = read(`${folder}type`);
    if (!type) break;
    if (type === 'Instruction') continue;
    found.push(`L${read(`${folder}level`)} ${read(`${folder}size`)}`);
  }
  return found.join(', ') || 'caches unknown';
}

function hugePages() {
  const setting = read('/sys/kernel/mm/transparent_hugepage/enabled').match(/\[(\w+)\]/)?.[1];
  return setting ? `transparent huge pages: ${setting}` : 'huge pages unknown';
}

export function describeMachine() {
  const compiler = JSON.parse(read(new URL('../../packages/kernels/build/status.json', import.meta.url)) || '{}');
  return [
    ['processor', `${cpus()[0].model}, ${availableParallelism()} cores; ${caches()}`],
    ['memory', `${formatBytes(totalmem())}; ${hugePages()}`],
    ['load before', `${loadavg()[0].toFixed(1)} processes`],
    ['Node.js', `${process.version}, ${process.platform} ${process.arch}`],
    ['kernels', loadKernels().description],
    ['compiler', compiler.compiler ?? `none (${compiler.reason ?? 'not built'})`],
  ];
}

/** Share of this process's anonymous memory that lies in huge pages; null where the system does not tell. */
export function hugeShare() {
  const kilobytes = (name) =>
    Number(read('/proc/self/smaps_rollup').match(new RegExp(`^${name}:\\s+(\\d+)`, 'm'))?.[1]);
  const share = kilobytes('AnonHugePages') / kilobytes('Anonymous');
  return Number.isFinite(share) ? share : null;
}

/** The heading of a command's part of docs/benchmarks.md. */
export function heading(command, machine, begun) {
  const seconds = Math.round((performance.now() - begun) / 1000);
  return [
    `## \`${command}\``,
    '',
    `${new Date().toISOString().slice(0, 10)}, ${seconds} s after the build.`,
    '',
    '| | |',
    '|---|---|',
    ...machine.map((pair) => `| ${pair.join(' | ')} |`),
    '',
  ].join('\n');
}
