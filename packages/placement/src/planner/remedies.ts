/** What to do where nothing fits: every remedy that is told was planned, and fits. */
import { FinetableError, formatBytes } from '@finetable/core';
import type { Attempt } from './plan.ts';
import { storedRowBytes, type DeviceTotal, type PlacementPlan, type PlanRequest, type TableRequest } from './types.ts';

type Planner = (request: PlanRequest) => Attempt;

/** @param closest the plan that misses the budgets by the least */
export function doesNotFit(request: PlanRequest, closest: PlacementPlan, plan: Planner): FinetableError {
  const short = closest.devices.filter((device) => shortOf(device) > 0);
  const remedies = [
    ...mapTables(request, plan),
    ...smallerDtypes(request, closest, plan),
    ...lowerRanks(request, closest, plan),
    ...smallerBatches(request, plan),
    ...raiseBudget(request, short, plan),
  ];
  const lines = short.map((device) => describeShortage(device, closest));
  const [first] = short;
  return new FinetableError(
    'DOES_NOT_FIT',
    `the plan does not fit: ${lines.join('; ')}. Any one of these makes it fit:\n${remedies.map((remedy) => `  - ${remedy}\n`).join('')}`.trimEnd(),
    {
      device: first!.name,
      neededBytes: first!.usedBytes,
      budgetBytes: first!.budgetBytes,
      shortBytes: shortOf(first!),
      remedies,
    },
  );
}

const shortOf = ({ usedBytes, budgetBytes }: DeviceTotal): number =>
  budgetBytes === null ? 0 : Math.max(0, usedBytes - budgetBytes);

/** `ram needs 13 GiB (table "words" 12 GiB, adapters 1 GiB), its budget is 8 GiB (75% of …): 5 GiB short`. */
function describeShortage(device: DeviceTotal, { tables, reserved }: PlacementPlan): string {
  const parts = tables.map(({ name, shards }): [string, number] => [
    `table "${name}"`,
    shards.reduce((sum, shard) => sum + (shard.device === device.name ? shard.bytes : 0), 0),
  ]);
  if (device.reservedBytes > 0) parts.push(...Object.entries(reserved));
  const named = parts
    .filter(([, bytes]) => bytes > 0)
    .sort(([, a], [, b]) => b - a)
    .map(([name, bytes]) => `${name} ${formatBytes(bytes)}`);
  const note = device.note === '' ? '' : ` (${device.note})`;
  return `${device.name} needs ${formatBytes(device.usedBytes)} (${named.join(', ')}), its budget is ${formatBytes(device.budgetBytes!)}${note}: ${formatBytes(shortOf(device))} short`;
}

const fits = ({ shortBytes }: Attempt): boolean => shortBytes === 0;

const change = (request: PlanRequest, table: TableRequest, changes: Partial<TableRequest>): PlanRequest => ({
  ...request,
  tables: request.tables.map((other) => (other === table ? { ...other, ...changes } : other)),
});

/** Tables that must lie elsewhere, read from their files instead. */
function mapTables(request: PlanRequest, plan: Planner): string[] {
  const mapped = request.devices.find(({ kind }) => kind === 'mapped')?.name;
  if (mapped === undefined) return [];
  const elsewhere = request.tables.filter(
    ({ device, shards }) => shards !== undefined || (device !== undefined && device !== mapped),
  );
  const inFiles = { device: mapped, shards: undefined };
  const each = elsewhere.filter((table) => fits(plan(change(request, table, inFiles))));
  if (each.length > 0) return each.map(({ name }) => `map the file of "${name}" instead of loading it`);
  const all = elsewhere.reduce((before, table) => change(before, table, inFiles), request);
  const names = elsewhere.map(({ name }) => `"${name}"`).join(', ');
  return elsewhere.length > 1 && fits(plan(all)) ? [`map the files of ${names} instead of loading them`] : [];
}

const dtypes = ['f16', 'int8', 'int4'] as const;

/** The least lossy dtype of each table that would do. */
function smallerDtypes(request: PlanRequest, closest: PlacementPlan, plan: Planner): string[] {
  return request.tables.flatMap((table, t) => {
    const { name, rows, dim, dtype, groupDims } = table;
    const now = closest.tables[t]!.bytes;
    for (const smaller of dtypes) {
      const group = smaller === 'int4' ? (groupDims ?? Math.min(64, dim)) : undefined;
      const bytes = rows * storedRowBytes(smaller, dim, group);
      if (bytes >= now || !fits(plan(change(request, table, { dtype: smaller, groupDims: group })))) continue;
      return [
        `store "${name}" as ${smaller}: it would need ${formatBytes(bytes)} instead of ${formatBytes(now)} (${dtype})`,
      ];
    }
    return [];
  });
}

function lowerRanks(request: PlanRequest, closest: PlacementPlan, plan: Planner): string[] {
  return request.tables.flatMap((table) => {
    const { name, adapter } = table;
    if (!adapter) return [];
    const from = adapter.kind === 'dense' ? Math.min(table.dim, 16) : (adapter.rank ?? 1);
    for (let rank = from >> 1; rank >= 1; rank >>= 1) {
      const attempt = plan(change(request, table, { adapter: { ...adapter, kind: 'lora', rank } }));
      if (!fits(attempt)) continue;
      const saved = formatBytes(reservedIn(closest) - reservedIn(attempt.plan));
      return adapter.kind === 'dense'
        ? [`a LoRA adapter of rank ${rank} for "${name}" instead of the dense one saves ${saved}`]
        : [`lower the rank of "${name}" from ${adapter.rank} to ${rank}: saves ${saved}`];
    }
    return [];
  });
}

const reservedIn = ({ reserved }: PlacementPlan): number =>
  Object.values(reserved).reduce((sum, bytes) => sum + bytes, 0);

function smallerBatches(request: PlanRequest, plan: Planner): string[] {
  const most = Math.max(...request.tables.map(({ bags }) => bags));
  for (let divisor = 2; divisor <= most; divisor *= 2) {
    const tables = request.tables.map((table) => ({ ...table, bags: Math.max(1, Math.floor(table.bags / divisor)) }));
    if (fits(plan({ ...request, tables }))) return [`divide the batch size by ${divisor}`];
  }
  return [];
}

/** To what the closest plan needs, rounded up to a MiB so that it can be written down; or more memory, where there is none. */
function raiseBudget(request: PlanRequest, short: readonly DeviceTotal[], plan: Planner): string[] {
  const mib = 2 ** 20;
  const needed = new Map(short.map(({ name, usedBytes }) => [name, Math.ceil(usedBytes / mib) * mib]));
  const devices = request.devices.map((device) => ({
    ...device,
    budgetBytes: needed.get(device.name) ?? device.budgetBytes,
  }));
  if (!fits(plan({ ...request, devices }))) return [];
  const steps = request.devices.flatMap(({ name, freeBytes = Infinity }) => {
    const bytes = needed.get(name);
    if (bytes === undefined) return [];
    return bytes <= freeBytes
      ? [`raise the budget of ${name} to ${bytes / mib} MiB`]
      : [`find ${bytes / mib} MiB for ${name}: it has ${formatBytes(freeBytes)} free`];
  });
  return [steps.join(', and ')];
}
