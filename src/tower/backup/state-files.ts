/** What a tower's state directory holds. */
export const stateFiles = { tower: 'tower.json', sealed: 'sealed.bin', database: 'tower.db', inbox: 'inbox', head: 'audit-head.json' } as const;
