/** Checks of labels and numbers. */
import { refuse, checkInteger, checkNumber, checkOneOf } from './refuse.ts';
import { columnsOfNumbers } from './numbers.ts';
import type { LabelSpec, NumbersSpec } from './spec.ts';

export function checkLabel(path: string, spec: LabelSpec): void {
  const { type = 'class', classes, separator, default: otherwise } = spec;
  checkOneOf(`${path}.type`, type, ['class', 'number', 'classes']);
  if (type === 'number' && classes) throw refuse(`${path}.classes`, classes, 'none, since the label is a number');
  if (type !== 'classes' && separator !== undefined)
    throw refuse(`${path}.separator`, separator, 'only with type "classes"');
  if (separator !== undefined) checkInteger(`${path}.separator.length`, separator.length, 1, 100);
  if (classes) {
    if (classes.length === 0) throw refuse(`${path}.classes`, classes, 'at least one class');
    const twice = repeated(classes);
    if (twice !== undefined) throw refuse(`${path}.classes`, twice, 'each class once');
  }
  if (otherwise === undefined) return;
  const field = `${path}.default`;
  if (type === 'number') {
    if (typeof otherwise !== 'number') throw refuse(field, otherwise, 'a number');
    checkNumber(field, otherwise);
    return;
  }
  const names = type === 'class' ? [otherwise] : otherwise;
  if (!Array.isArray(names) || names.some((name) => typeof name !== 'string'))
    throw refuse(field, otherwise, type === 'class' ? 'a class name' : 'a list of class names');
  const unknown = classes && (names as string[]).find((name) => !classes.includes(name));
  if (unknown !== undefined) throw refuse(field, unknown, 'one of the classes');
}

export function checkNumbers(path: string, spec: NumbersSpec): void {
  const columns = columnsOfNumbers(spec);
  if (columns.length === 0 || repeated(columns) !== undefined)
    throw refuse(`${path}.column`, spec.column, 'a name, or a list of names, each once');
  const { normalize, default: otherwise, log1p = false } = spec;
  if (typeof normalize === 'object') {
    for (const member of ['mean', 'deviation'] as const) {
      const values = normalize[member];
      if (values.length !== columns.length)
        throw refuse(`${path}.normalize.${member}`, values, `${columns.length} numbers, one for each column`);
      values.forEach((value, i) =>
        checkNumber(`${path}.normalize.${member}[${i}]`, value, member === 'mean' ? undefined : 0),
      );
    }
  } else if (normalize !== undefined) checkOneOf(`${path}.normalize`, normalize, ['measured']);
  if (otherwise === 'mean') {
    if (normalize === undefined) throw refuse(`${path}.default`, otherwise, '"mean" only together with normalize');
  } else if (otherwise !== undefined) {
    checkNumber(`${path}.default`, otherwise);
    if (log1p && otherwise <= -1) throw refuse(`${path}.default`, otherwise, 'numbers above -1, for log1p');
  }
}

function repeated(names: readonly string[]): string | undefined {
  return names.find((name, i) => names.indexOf(name) < i);
}
