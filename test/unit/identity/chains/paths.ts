/** How long certificates live, and how they hang together. */
import type { Extension } from '@peculiar/asn1-x509';
import { extensionOids } from '../../../../src/identity/profile.ts';
import { at, element, type Element } from '../der-tree.ts';
import * as f from '../forge.ts';
import * as r from '../reissue.ts';
import {
  type ChainCase,
  bad,
  forgeIntermediate,
  forgeLeaf,
  good,
  intermediate,
  intermediateAs,
  keys,
  leaf,
  life,
  leafAs,
  leafWith,
  NOW_MS,
  of,
  one,
  root,
  secondRoot,
  SECOND_MS,
  stranger,
  strangeIntermediate,
  under,
  YEAR_MS,
  type Verdict,
} from './cast.ts';

export function validity(): ChainCase[] {
  const cases: ChainCase[] = [];
  const ends: [string, number][] = [
    ['a second ago', SECOND_MS],
    ['a minute ago', 60 * SECOND_MS],
    ['a day ago', f.DAY_MS],
    ['ten years ago', 10 * YEAR_MS],
  ];
  for (const [when, ago_ms] of ends) {
    const notAfter_ms = NOW_MS - ago_ms;
    const shape = { notBefore_ms: notAfter_ms - f.DAY_MS, notAfter_ms };
    cases.push(bad(`leaf ended ${when}`, leafWith({}, shape)), bad(`intermediate ended ${when}`, under(shape)));
  }
  for (const [when, ms] of [
    ['in ten minutes', 600 * SECOND_MS],
    ['tomorrow', f.DAY_MS],
    ['in ten years', 10 * YEAR_MS],
  ] as const) {
    const shape = { notBefore_ms: NOW_MS + ms, notAfter_ms: NOW_MS + ms + f.DAY_MS };
    cases.push(bad(`leaf begins ${when}`, leafWith({}, shape)), bad(`intermediate begins ${when}`, under(shape)));
  }
  cases.push(bad('leaf ends before it begins', leafWith({}, { notBefore_ms: NOW_MS + f.DAY_MS, notAfter_ms: NOW_MS - f.DAY_MS })));
  cases.push(good('leaf begins now', leafWith({}, { notBefore_ms: NOW_MS })));
  cases.push(good('leaf beyond the end of its issuer, today', leafWith({}, { notAfter_ms: NOW_MS + 5 * YEAR_MS })));
  const UTC = 0x17;
  const GENERALIZED = 0x18;
  const texts: [string, number, string, Verdict][] = [
    ['the last moment there is', GENERALIZED, '99991231235959Z', 'accepted'],
    ['a time of another zone', UTC, '491231235959+0000', 'certificate_invalid'],
    ['a time without seconds', UTC, '4912312359Z', 'certificate_invalid'],
    ['a time without a zone', UTC, '491231235959', 'certificate_invalid'],
    ['a fraction of a second', GENERALIZED, '20491231235959.5Z', 'certificate_invalid'],
    ['month 13', UTC, '491331235959Z', 'certificate_invalid'],
    ['day 32', UTC, '491232235959Z', 'certificate_invalid'],
    ['29 February of no leap year', UTC, '490229235959Z', 'certificate_invalid'],
    ['hour 24', UTC, '491231245959Z', 'certificate_invalid'],
    ['second 60', UTC, '491231235960Z', 'certificate_invalid'],
    ['a time of letters', UTC, 'abcdefghijklZ', 'certificate_invalid'],
    ['an empty time', UTC, '', 'certificate_invalid'],
    ['a year of the last century', UTC, '991231235959Z', 'certificate_invalid'],
    ['a time in the wrong type', 0x0c, '491231235959Z', 'certificate_invalid'],
  ];
  for (const [name, tag, text, verdict] of texts) {
    const time = element(tag, new Uint8Array(Buffer.from(text)));
    const change = (tbs: Element) => at(tbs, [r.part.validity]).children?.splice(1, 1, time);
    cases.push(one(`leaf ends at ${name}`, leafAs(change), verdict), one(`intermediate ends at ${name}`, intermediateAs(change), verdict));
  }
  return cases;
}

export function paths(): ChainCase[] {
  const extensions = (constraints: ReturnType<typeof f.basicConstraints>) => ({ extensions: [constraints, f.authorityUsage] });
  const below = forgeIntermediate(intermediate, { name: 'below' });
  const wide = forgeIntermediate(root, { name: 'wide', ...extensions(f.basicConstraints(true)) });
  const underWide = forgeIntermediate(wide, { name: 'under wide' });
  const fromRoot = forgeLeaf(root);
  const crossed = forgeIntermediate(stranger, { name: intermediate.name, keys: intermediate.keys });
  const crossedWell = forgeIntermediate(secondRoot, { name: intermediate.name, keys: intermediate.keys });
  const impostor = forgeIntermediate({ ...root, keys: f.ecKeys() });
  const selfSigned = f.forge({ name: f.NODE, keys, issuer: null, ...life, extensions: f.leafExtensions() });
  const deep: f.Forged[] = [];
  for (let level = 0; level < 49; level++)
    deep.unshift(forgeIntermediate(deep[0] ?? root, { name: `level ${level}`, ...extensions(f.basicConstraints(true)) }));
  const bottom = deep[0] ?? root;
  const cases = [
    good('leaf and intermediate', of(leaf, intermediate)),
    good('leaf, intermediate and root', of(leaf, intermediate, root)),
    good('leaf, intermediate and another root of the bundle', of(leaf, intermediate, secondRoot)),
    bad('leaf alone', of(leaf)),
    bad('leaf and root', of(leaf, root)),
    bad('leaf and a strange intermediate', of(leaf, strangeIntermediate)),
    bad('intermediate before the leaf', of(intermediate, leaf)),
    bad('root before the intermediate', of(leaf, root, intermediate)),
    bad('intermediate twice', of(leaf, intermediate, intermediate)),
    bad('leaf twice', of(leaf, leaf, intermediate)),
    bad('root twice', of(leaf, intermediate, root, root)),
    bad('a stranger’s root at the end', of(leaf, intermediate, stranger)),
    bad(
      'a leaf of another node at the end',
      of(leaf, intermediate, forgeLeaf(intermediate, { names: f.names({ uniformResourceIdentifier: f.URI }) }, { keys: f.ecKeys() })),
    ),
    bad('under a stranger', of(forgeLeaf(strangeIntermediate), strangeIntermediate)),
    bad('under a stranger, with its root', of(forgeLeaf(strangeIntermediate), strangeIntermediate, stranger)),
    bad('signed by itself', of(selfSigned)),
    bad('signed by itself, with the intermediate', of(selfSigned, intermediate)),
    bad('issued by the root', of(fromRoot)),
    bad('issued by the root, with the root', of(fromRoot, root)),
    bad('issued by the root, with the intermediate', of(fromRoot, intermediate)),
    bad('issued by a leaf', of(forgeLeaf({ ...leaf, keys }, {}, { keys: f.ecKeys() }), leaf, intermediate), { keys }),
    bad('two intermediates, against the path length', of(forgeLeaf(below), below, intermediate)),
    bad('two intermediates, as the path length allows', of(forgeLeaf(underWide), underWide, wide)),
    bad('cross-signed by a stranger, in its place', of(leaf, crossed)),
    bad('cross-signed by a stranger, beside it', of(leaf, intermediate, crossed)),
    bad('cross-signed by a stranger, before it', of(leaf, crossed, intermediate)),
    good('cross-signed by the other root of the bundle', of(leaf, crossedWell)),
    bad('cross-signed by the other root, and both shown', of(leaf, crossedWell, intermediate)),
    bad('an impostor of the intermediate', of(forgeLeaf(impostor), impostor)),
    bad('a leaf of an impostor, with the true intermediate', of(forgeLeaf({ ...intermediate, keys: f.ecKeys() }), intermediate)),
    bad('chain of 50', of(forgeLeaf(bottom), ...deep)),
    bad('chain of 50 of the same', of(leaf, ...Array.from({ length: 49 }, () => intermediate))),
    bad('chain of 5', of(leaf, intermediate, root, root, root)),
  ];
  for (const [name, value] of [
    ['none', undefined],
    ['0', 0],
    ['1', 1],
    ['100', 100],
  ] as const)
    cases.push(good(`intermediate of path length ${name}`, under(extensions(f.basicConstraints(true, value)))));
  return cases;
}

export function constraints(): ChainCase[] {
  const { basicConstraints } = extensionOids;
  const hex = (text: string) => new Uint8Array(Buffer.from(text, 'hex'));
  const leafs: [string, Extension | null, Verdict][] = [
    ['without basic constraints', null, 'accepted'],
    ['with basic constraints that are not critical', f.rawExtension(basicConstraints, false, hex('3000')), 'accepted'],
    ['that is a CA', f.basicConstraints(true), 'certificate_invalid'],
    ['that is a CA of path length 0', f.basicConstraints(true, 0), 'certificate_invalid'],
    ['that is a CA, not critically', f.rawExtension(basicConstraints, false, hex('30030101ff')), 'certificate_invalid'],
    ['that is no CA and has a path length', f.rawExtension(basicConstraints, true, hex('3003020100')), 'accepted'],
    ['that says no CA in so many words', f.rawExtension(basicConstraints, true, hex('3003010100')), 'certificate_invalid'],
    ['that is a CA by 01', f.rawExtension(basicConstraints, true, hex('3003010101')), 'certificate_invalid'],
    ['with octets behind its constraints', f.rawExtension(basicConstraints, true, hex('30000500')), 'certificate_invalid'],
    ['with constraints of nothing', f.rawExtension(basicConstraints, true, hex('')), 'certificate_invalid'],
    ['with constraints that are a number', f.rawExtension(basicConstraints, true, hex('020101')), 'certificate_invalid'],
  ];
  const intermediates: [string, Extension[], Verdict][] = [
    ['without basic constraints', [], 'certificate_invalid'],
    ['that is no CA', [f.basicConstraints(false)], 'certificate_invalid'],
    ['that is a CA by 01', [f.rawExtension(basicConstraints, true, hex('3003010101'))], 'certificate_invalid'],
    ['whose path length is negative', [f.rawExtension(basicConstraints, true, hex('30060101ff0201ff'))], 'certificate_invalid'],
    ['whose path length is two to the 32nd', [f.rawExtension(basicConstraints, true, hex('300a0101ff02050100000000'))], 'certificate_invalid'],
    ['whose constraints are not critical', [f.rawExtension(basicConstraints, false, hex('30030101ff'))], 'accepted'],
  ];
  return [
    ...leafs.map(([name, extension, verdict]) => one(`leaf ${name}`, leafWith({ constraints: extension }), verdict)),
    ...intermediates.map(([name, list, verdict]) => one(`intermediate ${name}`, under({ extensions: [...list, f.authorityUsage] }), verdict)),
    bad('the intermediate itself, as a leaf', of(intermediate, root), { keys: intermediate.keys }),
    bad('the root itself, as a leaf', of(root), { keys: root.keys }),
  ];
}
