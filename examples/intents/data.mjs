// Where the example's data are: two folders, `numberbatch` (vectors.f16.npy, words.txt) and `banking77` (train.csv, test.csv).
import { findData as find } from '../data.mjs';

const files = [
  'numberbatch/vectors.f16.npy',
  'numberbatch/words.txt',
  'banking77/train.csv',
  'banking77/test.csv',
];

/** @param {string | undefined} given */
export const findData = (given) => find('ConceptNet Numberbatch and BANKING77', files, given);

/** The jobs name `data/...`; these overrides put the folder that was found in its place. */
export function jobPaths(folder) {
  return [
    `tables.words.file=${folder}/numberbatch/vectors.f16.npy`,
    `features.text.tokens.vocabulary=${folder}/numberbatch/words.txt`,
    `data.train.file=${folder}/banking77/train.csv`,
  ];
}
