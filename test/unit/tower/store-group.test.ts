/** Changes that come together are on disk together, and each stands for itself. */
import { DatabaseSync, type SQLInputValue } from 'node:sqlite';
import { Kysely, SqliteDialect } from 'kysely';
import t from 'tap';
import { limits } from '../../../src/base/limits.ts';
import { GroupCommit } from '../../../src/tower/store/group.ts';

interface Rows {
  readonly words: { readonly word: string };
}

interface Given {
  readonly group: GroupCommit<Rows>;
  readonly words: () => unknown[];
  readonly ran: string[];
  readonly lost: () => number;
  /** From now on. */
  readonly failOn: (text: string) => void;
  /** Forgetting what is lost throws from now on. */
  readonly keepMemory: () => void;
}

function given(test: { teardown(work: () => Promise<void>): void }): Given {
  const database = new DatabaseSync(':memory:');
  database.exec('create table words (word text primary key)');
  const ran: string[] = [];
  let failing = '';
  let lost = 0;
  let isKept = false;
  const db = new Kysely<Rows>({
    dialect: new SqliteDialect({
      database: {
        close: () => database.close(),
        prepare: (text) => {
          ran.push(text.split(' ')[0] ?? '');
          if (failing !== '' && text.startsWith(failing)) throw new Error(`cannot ${text}`);
          const statement = database.prepare(text);
          return {
            reader: statement.columns().length > 0,
            all: (values) => statement.all(...(values as SQLInputValue[])),
            run: (values) => statement.run(...(values as SQLInputValue[])),
            iterate: (values) => statement.iterate(...(values as SQLInputValue[])),
          };
        },
      },
    }),
  });
  test.teardown(() => db.destroy());
  return {
    group: new GroupCommit({
      db,
      onLost: () => {
        if (isKept) throw new Error('cannot forget');
        lost++;
      },
    }),
    words: () =>
      database
        .prepare('select word from words order by rowid')
        .all()
        .map(({ word }) => word),
    ran,
    lost: () => lost,
    failOn: (text) => {
      failing = text;
    },
    keepMemory: () => {
      isKept = true;
    },
  };
}

const add = (group: GroupCommit<Rows>, word: string) => group.write(async (tx) => void (await tx.insertInto('words').values({ word }).execute()));

t.test('many changes, one commit', async (t) => {
  const { group, words, ran } = given(t);
  await Promise.all(['one', 'two', 'three'].map((word) => add(group, word)));
  t.same(words(), ['one', 'two', 'three']);
  t.equal(ran.filter((verb) => verb === 'commit').length, 1);
});

t.test('one that fails is taken back alone, with all that it wrote', async (t) => {
  const { group, words, lost } = given(t);
  const half = group.write(async (tx) => {
    await tx.insertInto('words').values({ word: 'half' }).execute();
    throw new Error('thought better of it');
  });
  const [first, second, third] = await Promise.allSettled([add(group, 'one'), half, add(group, 'three')]);
  t.same([first?.status, second?.status, third?.status], ['fulfilled', 'rejected', 'fulfilled']);
  t.same(words(), ['one', 'three']);
  t.equal(lost(), 1, 'what it may have let others remember is forgotten');
});

t.test('a later change sees what the ones before it did', async (t) => {
  const { group } = given(t);
  const [, seen] = await Promise.all([add(group, 'one'), group.write(async (tx) => (await tx.selectFrom('words').selectAll().execute()).length)]);
  t.equal(seen, 1);
});

t.test('nobody hears of success before the commit, and nobody at all where it fails', async (t) => {
  const { group, words, ran, lost, failOn } = given(t);
  const heard: string[] = [];
  const told = (word: string) => add(group, word).then(() => void heard.push(ran.at(-1) ?? ''));
  await Promise.all([told('one'), told('two')]);
  t.same(heard, ['commit', 'commit']);
  failOn('commit');
  const outcomes = await Promise.allSettled([add(group, 'three'), add(group, 'four')]);
  t.ok(outcomes.every((outcome) => outcome.status === 'rejected' && /cannot commit/.test(String(outcome.reason))));
  t.same(words(), ['one', 'two']);
  t.equal(lost(), 1);
  failOn('');
  await add(group, 'five');
  t.same(words(), ['one', 'two', 'five'], 'the next one is not hurt');
});

t.test('an engine that took everything back by itself: all of it is lost, with the reason', async (t) => {
  const { group, words, failOn } = given(t);
  failOn('rollback to');
  const full = async () => {
    throw new Error('the disk is full');
  };
  const outcomes = await Promise.allSettled([add(group, 'one'), group.write(full)]);
  t.ok(outcomes.every((outcome) => outcome.status === 'rejected' && /the disk is full/.test(String(outcome.reason))));
  t.same(words(), []);
});

t.test('a group has a bound', async (t) => {
  const { group, words, ran } = given(t);
  const count = limits.store_group_changes_max + 1;
  await Promise.all(Array.from({ length: count }, (_, index) => add(group, `word ${index}`)));
  t.equal(words().length, count);
  t.equal(ran.filter((verb) => verb === 'commit').length, 2);
});

t.test('a memory that cannot be cleared is told to whoever lost a change, and keeps nobody from writing', async (t) => {
  const { group, words, failOn, keepMemory } = given(t);
  await add(group, 'one');
  keepMemory();
  const both = await Promise.allSettled([add(group, 'one'), add(group, 'two')]);
  t.match(both, [{ status: 'rejected', reason: { errors: [{ message: /UNIQUE/ }, { message: 'cannot forget' }] } }, { status: 'fulfilled' }]);
  failOn('commit');
  await t.rejects(add(group, 'three'), { errors: [{ message: /cannot commit/ }, { message: 'cannot forget' }] });
  failOn('');
  await add(group, 'four');
  t.same(words(), ['one', 'two', 'four']);
});
