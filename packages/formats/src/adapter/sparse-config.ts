/** The member `finetable` of a sparse adapter's `adapter_config.json`: what PEFT's own fields cannot say of its tables. */
import { FinetableError } from '@finetable/core';
import { show } from '../io.ts';
import { Fields, mostSpecificFirst, type AdapterConfig } from './config.ts';
import { restGroup, type AdapterTensors, type GroupTensors } from './tensors.ts';

/** All that the configuration says of a group; the rest is tensors. */
export type GroupConfig = Pick<GroupTensors, 'name' | 'kind' | 'rank' | 'alpha' | 'rsLora' | 'untouched'>;

/** What names a group's tensors in the file: the table, and but for the rest the group. */
export function groupKey(table: string, group: string): string {
  return group === restGroup ? table : `${table}/${group}`;
}

export function sparseConfig(adapters: readonly AdapterTensors[]): object {
  const rests = adapters.map(({ table, groups }) => [table, groups[0]!] as const);
  const rsLoras = rests.map(([table, { rsLora }]) => [table, rsLora] as const);
  const groups = adapters.filter((adapter) => adapter.groups.length > 1);
  const untouched = adapters.flatMap(({ table, groups }) =>
    groups.flatMap(({ name, untouched }) => (untouched ? [[groupKey(table, name), untouched] as const] : [])),
  );
  return {
    format: 1,
    kinds: new Map(rests.map(([table, { kind }]) => [table, kind])),
    ...(rsLoras.some(([, rsLora]) => rsLora !== rsLoras[0]![1]) && { rslora_pattern: mostSpecificFirst(rsLoras) }),
    ...(groups.length > 0 && {
      groups: new Map(groups.map(({ table, groups }) => [table, groups.slice(1).map(groupJson)])),
    }),
    ...(untouched.length > 0 && {
      untouched: new Map(
        untouched.map(([key, { seed, stream, rows }]) => [key, { seed, stream, ...(rows !== undefined && { rows }) }]),
      ),
    }),
  };
}

function groupJson({ name, kind, rank, alpha, rsLora }: GroupTensors): object {
  return { name, kind, rank, alpha, rslora: rsLora };
}

const members = ['format', 'kinds', 'rslora_pattern', 'groups', 'untouched'];

/**
 * The groups of every table of a sparse adapter, the rest first, in the order of `target_modules`.
 * @throws INVALID_FILE, UNSUPPORTED
 */
export function parseSparseConfig(config: AdapterConfig, file: string): ReadonlyMap<string, readonly GroupConfig[]> {
  const fields = new Fields(file);
  const refuse = (message: string): never => {
    throw new FinetableError('INVALID_FILE', `${file}: ${message}`, { file });
  };
  const { finetable: json, targetModules: tables } = config;
  if (!json) return refuse('finetable is missing, so this is not a sparse adapter; read it as a PEFT adapter');
  if (!tables) return refuse('target_modules is not a list; a sparse adapter lists its tables there');
  if (json.get('format') !== 1)
    fields.fail('UNSUPPORTED', 'finetable.format', json.get('format'), '1; a newer version of finetable may read it');
  onlyKnown(json.keys(), members, 'finetable');
  const kinds = fields.map(json.get('kinds'), 'finetable.kinds', (value, field) => fields.kind(value, field));
  const rsLoras = fields.map(json.get('rslora_pattern'), 'finetable.rslora_pattern', (value, field) =>
    fields.flag(value, field),
  );
  const untouched = fields.map(json.get('untouched'), 'finetable.untouched', (value, field) => {
    const object = fields.object(value, field);
    onlyKnown(object.keys(), ['seed', 'stream', 'rows'], field);
    const seed = object.get('seed');
    const rows = object.get('rows');
    return {
      ...(rows !== undefined && { rows: fields.number(rows, `${field}.rows`) }),
      seed: typeof seed === 'number' ? seed : fields.fail('INVALID_FILE', `${field}.seed`, seed, 'an integer from 0'),
      stream: fields.text(object.get('stream'), `${field}.stream`),
    };
  });
  const named = fields.map(json.get('groups'), 'finetable.groups', (value, field) => {
    if (!Array.isArray(value)) return fields.fail('INVALID_FILE', field, value, 'a list of groups');
    return value.map((item, i) => {
      const at = `${field}[${i}]`;
      const object = fields.object(item, at);
      onlyKnown(object.keys(), ['name', 'kind', 'rank', 'alpha', 'rslora'], at);
      return {
        name: fields.text(object.get('name'), `${at}.name`),
        kind: fields.kind(object.get('kind'), `${at}.kind`),
        rank: fields.rank(object.get('rank'), `${at}.rank`),
        alpha: fields.number(object.get('alpha'), `${at}.alpha`),
        rsLora: fields.flag(object.get('rslora'), `${at}.rslora`),
      };
    });
  });

  if (tables.length !== kinds.size || tables.some((table) => !kinds.has(table))) {
    const names = [...kinds.keys()].join(', ');
    refuse(`target_modules (${tables.join(', ')}) and finetable.kinds (${names}) name different tables`);
  }
  onlyKnown(named.keys(), tables, 'finetable.groups');
  const known = new Map<string, readonly GroupConfig[]>();
  const keys = new Set<string>();
  for (const table of tables) {
    const rest = {
      name: restGroup,
      kind: kinds.get(table)!,
      ...config.factorsOf(table),
      rsLora: rsLoras.get(table) ?? config.rsLora,
    };
    const groups = [rest, ...(named.get(table) ?? [])].map((group) => {
      const key = groupKey(table, group.name);
      if (keys.has(key))
        refuse(`finetable.groups: two groups are named ${show(key)} in the file; allowed: distinct names`);
      keys.add(key);
      return { ...group, untouched: untouched.get(key) ?? null };
    });
    known.set(table, groups);
  }
  onlyKnown(untouched.keys(), [...keys], 'finetable.untouched');
  return known;

  function onlyKnown(found: Iterable<string>, allowed: readonly string[], field: string): void {
    for (const name of found) {
      if (!allowed.includes(name)) refuse(`${field} has ${show(name)}; allowed: ${allowed.join(', ') || 'none'}`);
    }
  }
}
