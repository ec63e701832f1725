/** Names of options: what is asked for is honoured or refused, also by programs that no compiler has checked. */
import { FinetableError } from './errors.ts';

/** Every name of a type's fields, which the compiler checks to be all of them. */
export type OptionNames<T> = Readonly<Record<keyof T, true>>;

/**
 * Refuses what is no object, and options that are not there. One that is undefined counts as not given.
 * @param where names the thing in the error
 * @throws INVALID_ARGUMENT
 */
export function checkOptionNames(
  where: string,
  given: unknown,
  ...known: readonly Readonly<Record<string, true>>[]
): void {
  const names = known.flatMap((some) => Object.keys(some));
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    refuse(
      `found ${Array.isArray(given) ? 'a list' : given === null ? 'null' : typeof given}; allowed: an object of ${names.join(', ')}`,
    );
  for (const [name, value] of Object.entries(given as object)) {
    if (value !== undefined && !names.includes(name))
      refuse(`there is no option ${JSON.stringify(name)}; allowed: ${names.join(', ')}`);
  }

  function refuse(message: string): never {
    throw new FinetableError('INVALID_ARGUMENT', `${where}: ${message}`);
  }
}
