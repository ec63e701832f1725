/** Text to token ids, by a `tokenizer.json` as Hugging Face's libraries write it. */
import { readFileSync } from 'node:fs';
import { FinetableError } from '@finetable/core';
import { Tokenizer as Library } from '@huggingface/tokenizers';
import { fileError } from '../errors.ts';
import { precompiledNormalizer } from './precompiled.ts';
import { tokenizerSettings, type TokenizerSettings } from './settings.ts';

/** From a text to token ids, as the Rust library has them. */
export interface Tokenizer {
  /** What it was read from. */
  readonly file: string;
  /** One more than its highest id. */
  readonly size: number;
  /** What it takes in memory, about. */
  readonly memoryBytes: number;
  /** The id that stands for what is in no vocabulary; null where the tokenizer leaves such text out. */
  readonly unknownId: number | null;
  /**
   * The ids of a text without special tokens, unknown ones included.
   * @param maxTokens keeps the first so many; default: as the file's `truncation` says
   */
  encode(text: string, maxTokens?: number): number[];
  /** Every token, in no particular order; made anew. */
  tokens(): string[];
}

/**
 * Reads a WordPiece, BPE, Unigram or WordLevel tokenizer.
 * @throws NOT_FOUND, IO; INVALID_FILE for what is no tokenizer; UNSUPPORTED for a part of it that would not give the ids that
 *   the `tokenizers` library gives
 */
export function readTokenizer(file: string): Tokenizer {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file));
  } catch (error) {
    if (error instanceof TypeError) throw invalid(file, 'not UTF-8');
    throw fileError(error, file);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw invalid(file, `not JSON: ${(error as Error).message}`);
  }
  const settings = tokenizerSettings(json, (problem, code = 'UNSUPPORTED') => {
    throw new FinetableError(code, `${file}: ${problem}`, { file });
  });
  let library: Library;
  try {
    // A word-level model finds its unknown token here only.
    library = new Library(settings.json, { unk_token: settings.unknownToken });
    usePrecompiled(library.normalizer as unknown as Normalizer | null);
    if ((library.model as unknown as Model).vocab.length === 0) throw new Error('it has no tokens');
  } catch (error) {
    throw invalid(file, `not a tokenizer: ${(error as Error).message}`);
  }
  return new HuggingFaceTokenizer(file, library, settings);
}

/** Words whose tokens are kept: some MB at most. */
const keptWords = 2 ** 16;
const keptWordLength = 64;

/** Puts ours in the place of the library's. */
function usePrecompiled(normalizer: Normalizer | null): void {
  const { type, precompiled_charsmap: charsmap } = normalizer?.config ?? {};
  if (type === 'Precompiled') normalizer!.normalize = precompiledNormalizer(charsmap!)!;
  normalizer?.normalizers?.forEach(usePrecompiled);
}

interface Normalizer {
  readonly config?: { readonly type: string; readonly precompiled_charsmap?: string };
  /** Of a sequence. */
  readonly normalizers?: readonly (Normalizer | null)[];
  normalize: (text: string) => string;
}

/** What is used of the library's own, whose declarations do not resolve. */
interface Model {
  readonly config: { readonly type: string };
  readonly vocab: readonly string[];
  readonly tokens_to_ids: ReadonlyMap<string, number>;
  fuse_unk: boolean;
  encode: (words: readonly string[]) => readonly string[];
}

/** Bytes a token in V8, measured at 100,000 tokens of 12 characters; Unigram's are a tree of characters. */
const tokenBytes = { Unigram: 1800, others: 110 };

class HuggingFaceTokenizer implements Tokenizer {
  readonly file: string;
  readonly size: number;
  readonly memoryBytes: number;
  readonly unknownId: number | null;
  readonly #library: Library;
  readonly #truncation: TokenizerSettings['truncation'];

  constructor(file: string, library: Library, settings: TokenizerSettings) {
    const { fuseUnknown, dropCharacters, unknownToken, truncation } = settings;
    this.file = file;
    this.#library = library;
    this.#truncation = truncation;
    const model = library.model as unknown as Model;
    const ids = model.tokens_to_ids;
    this.size = model.vocab.length;
    this.memoryBytes = this.size * (model.config.type === 'Unigram' ? tokenBytes.Unigram : tokenBytes.others);
    this.unknownId = unknownToken === null ? null : (ids.get(unknownToken) ?? null);
    // Word by word: unknown pieces are joined within a word only, and a word that comes again costs one look.
    const encode = model.encode.bind(model);
    const known = new Map<string, readonly string[]>();
    const knownCharacters = (word: string): string => [...word].filter((character) => ids.has(character)).join('');
    const isUnknown = (token: string): boolean => token === unknownToken || !ids.has(token);
    model.fuse_unk = false;
    model.encode = (words) =>
      words.flatMap((word) => {
        const found = known.get(word);
        if (found) return found;
        const tokens = encode([dropCharacters && !ids.has(word) ? knownCharacters(word) : word]).filter(
          (token, i, all) => !fuseUnknown || i === 0 || !isUnknown(token) || !isUnknown(all[i - 1]!),
        );
        if (known.size === keptWords) known.clear();
        if (word.length <= keptWordLength) known.set(word, tokens);
        return tokens;
      });
  }

  encode(text: string, maxTokens?: number): number[] {
    // Where there is no unknown token, unknown pieces have no id.
    const found = this.#library.encode(text, { add_special_tokens: false }).ids as (number | undefined)[];
    const ids = found.filter((id) => id !== undefined);
    if (maxTokens !== undefined) return ids.length > maxTokens ? ids.slice(0, maxTokens) : ids;
    const cut = this.#truncation;
    if (!cut || ids.length <= cut.maxTokens) return ids;
    return cut.keep === 'first' ? ids.slice(0, cut.maxTokens) : ids.slice(ids.length - cut.maxTokens);
  }

  tokens(): string[] {
    return [...this.#library.get_vocab().keys()].filter((token) => typeof token === 'string');
  }
}

const invalid = (file: string, problem: string): FinetableError =>
  new FinetableError('INVALID_FILE', `${file}: ${problem}`, { file });
