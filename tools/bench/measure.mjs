// Times as ratios: the subjects of one comparison take turns in many short rounds, so that a slow moment of the machine meets all of them.

/** Quartiles and median. */
export function summary(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share) => {
    const place = share * (sorted.length - 1);
    const below = sorted[Math.floor(place)];
    return below + (sorted[Math.ceil(place)] - below) * (place % 1);
  };
  return { low: at(0.25), median: at(0.5), high: at(0.75) };
}

export const medianOf = (values) => summary(values).median;

/**
 * Milliseconds of each subject in each round. A subject does its work of round i, and returns a promise of milliseconds where it
 * measures itself (a process of another language). Who goes first changes from round to round.
 */
export async function takeTurns(subjects, { rounds, warmUp = 5 }) {
  const times = subjects.map(() => []);
  for (let round = -warmUp; round < rounds; round++) {
    for (let turn = 0; turn < subjects.length; turn++) {
      const s = (turn + round + warmUp) % subjects.length;
      const begun = performance.now();
      const own = subjects[s](round + warmUp);
      const time = own instanceof Promise ? await own : performance.now() - begun;
      if (round >= 0) times[s].push(time);
    }
  }
  return times;
}

/** Round by round. */
export const ratios = (numerators, denominators) => numerators.map((time, round) => time / denominators[round]);
