/** Tables that saved layers read, by name: a model's file cannot hold them. */
import { FinetableError } from '@finetable/core';
import { ShardedTable } from '@finetable/placement';

const tables = new Map<string, ShardedTable>();

/**
 * Names a table that layers read, for `tf.loadLayersModel` and `fromConfig`: a layer with a `table` is saved with the table's name. One
 * registered before under the same name is forgotten. The caller keeps and closes the table.
 *
 *     registerTable(await openTable('words.safetensors'));
 *     const model = await tf.loadLayersModel('file://model/model.json');
 */
export function registerTable(table: ShardedTable): void {
  if (!(table instanceof ShardedTable))
    throw new FinetableError('INVALID_ARGUMENT', 'registerTable: allowed: a table, such as openTable(...) gives');
  tables.set(table.name, table);
}

/** @param given a table, or what a config has in its place @throws NOT_FOUND, INVALID_ARGUMENT */
export function resolveTable(given: unknown): ShardedTable {
  if (given instanceof ShardedTable) return given;
  const { name } = (given ?? {}) as { name?: unknown };
  if (typeof name !== 'string')
    throw new FinetableError('INVALID_ARGUMENT', 'embedding: table: allowed: what openTable(...) gives');
  const table = tables.get(name);
  if (table && !table.closed) return table;
  throw new FinetableError(
    'NOT_FOUND',
    `embedding: the layer reads the table "${name}", ${table ? 'which is closed' : 'which is not registered'}; open it and call registerTable(table) first`,
    { table: name },
  );
}
