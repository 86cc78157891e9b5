// A terminal emulator on a pipe: JSON lines in, JSON lines out. Each line is a list with an element for each terminal's
// life; they are carried out in order.
//
// In:  {"columns": 80, "rows": 24, "plain": BOOL, "keep": BOOL, "steps": [STEP ...]}
//      STEP: {"write": BASE64} | {"resize": [COLUMNS, ROWS]} | {"look": "all" or "text" or "row"} | {"take": true}
//      "row" looks at the cursor's row and the one above it only: the other rows are empty, and so is the history.
//      "plain" leaves xterm.js as it is; with "keep" the next life's steps are carried out by the same terminal.
// Out: a list with the answers typed since, as BASE64, for each "take", and with what is shown at each "look":
//      {"rows": [TEXT ...], "cells": [ATTRIBUTES ...], "history": [TEXT ...], "cursor": [COLUMN, ROW], "title": TEXT,
//       "alternate": BOOL, "modes": {...}, "region": [TOP, BOTTOM], "typed": BASE64}

'use strict';

const readline = require('node:readline');
const { Terminal } = require('@xterm/headless');
const { Unicode11Addon } = require('@xterm/addon-unicode11');

const EXTENDED = 0x10000000;

// Where xterm.js is unlike the terminals of DEC, and unlike xterm, it is made like them:
// a saved cursor stays in its place on the screen when that scrolls, and origin mode and character sets are saved too;
// a relative movement in origin mode is relative; ED 1 in the last cell of the screen does not fail.
function correct(core) {
  const input = core._inputHandler;
  const charsets = core._charsetService;
  input.saveCursor = () => {
    const buffer = input._activeBuffer;
    buffer.saved = {
      x: Math.min(buffer.x, core.cols - 1),
      y: buffer.y,
      fg: input._curAttrData.fg,
      bg: input._curAttrData.bg,
      origin: core.coreService.decPrivateModes.origin,
      level: charsets.glevel,
      sets: charsets._charsets.slice(),
    };
    return true;
  };
  input.restoreCursor = () => {
    const buffer = input._activeBuffer;
    const saved = buffer.saved || { x: 0, y: 0, fg: 0, bg: 0, origin: false, level: 0, sets: [] };
    buffer.x = Math.min(saved.x, core.cols - 1);
    buffer.y = Math.min(saved.y, core.rows - 1);
    input._curAttrData.fg = saved.fg;
    input._curAttrData.bg = saved.bg;
    core.coreService.decPrivateModes.origin = saved.origin;
    charsets._charsets = saved.sets.slice();
    charsets.setgLevel(saved.level);
    input._restrictCursor();
    return true;
  };
  const softReset = input.softReset.bind(input);
  input.softReset = (parameters) => {
    input._activeBuffer.saved = undefined;
    return softReset(parameters);
  };
  input._moveCursor = (x, y) => {
    input._restrictCursor();
    input._activeBuffer.x += x;
    input._activeBuffer.y += y;
    input._restrictCursor();
  };
  const eraseInDisplay = input.eraseInDisplay.bind(input);
  input.eraseInDisplay = (parameters, respectProtect) => {
    const lines = input._activeBuffer.lines;
    const get = lines.get.bind(lines);
    lines.get = (index) => get(index) || {};
    try {
      return eraseInDisplay(parameters, respectProtect);
    } finally {
      delete lines.get;
    }
  };
}

const HISTORY_IN_TEXT = 50;

function look(terminal, state, what) {
  const buffer = terminal.buffer.active;
  const rows = [];
  const cells = [];
  const cell = buffer.getNullCell();
  for (let y = 0; y < terminal.rows; y++) {
    if (what === 'row' && y !== buffer.cursorY) {
      rows.push(y === buffer.cursorY - 1 ? buffer.getLine(buffer.baseY + y).translateToString(true) : '');
      cells.push('');
      continue;
    }
    const line = buffer.getLine(buffer.baseY + y);
    rows.push(line.translateToString(true));
    if (what === 'text') continue;
    const attributes = [];
    for (let x = 0; x < terminal.cols; x++) {
      line.getCell(x, cell);
      // Of an empty cell only the background is seen; which other attributes it has depends on how it was erased.
      const foreground = cell.getChars() ? cell.fg : 0;
      attributes.push(`${foreground.toString(36)},${(cell.bg & ~EXTENDED).toString(36)}`);
    }
    cells.push(attributes.join(' '));
  }
  const history = [];
  const shown = { all: buffer.baseY, text: HISTORY_IN_TEXT, row: 0 }[what];
  const first = Math.max(0, buffer.baseY - shown);
  for (let y = first; y < buffer.baseY; y++) history.push(buffer.getLine(y).translateToString(true));
  const core = terminal._core;
  const active = core.buffer;
  return {
    rows,
    cells,
    history,
    cursor: [buffer.cursorX, buffer.cursorY],
    title: state.title,
    alternate: buffer.type === 'alternate',
    region: [active.scrollTop, active.scrollBottom],
    modes: { ...terminal.modes, origin: core.coreService.decPrivateModes.origin, hidden: core.coreService.isCursorHidden },
    typed: encoded(state.typed),
  };
}

function open(life) {
  const terminal = new Terminal({
    cols: life.columns,
    rows: life.rows,
    scrollback: 1000,
    allowProposedApi: true,
    logLevel: 'off',
    windowOptions: { getWinSizeChars: true, getWinSizePixels: true, pushTitle: true, popTitle: true },
  });
  terminal.loadAddon(new Unicode11Addon());
  terminal.unicode.activeVersion = '11';
  if (!life.plain) correct(terminal._core);
  const state = { title: '', typed: [], taken: 0 };
  terminal.onTitleChange((title) => { state.title = title; });
  terminal.onData((data) => state.typed.push(data));
  return { terminal, state };
}

function encoded(typed) {
  return Buffer.from(typed.join(''), 'latin1').toString('base64');
}

let kept = null;

function run(life) {
  const { terminal, state } = kept || open(life);
  const looks = [];
  for (const step of life.steps) {
    if (step.write !== undefined) terminal._core._writeBuffer.writeSync(Buffer.from(step.write, 'base64'));
    else if (step.resize) terminal.resize(step.resize[0], step.resize[1]);
    else if (step.take) {
      looks.push(encoded(state.typed.slice(state.taken)));
      state.taken = state.typed.length;
    } else looks.push(look(terminal, state, step.look));
  }
  kept = life.keep ? { terminal, state } : null;
  if (!kept) terminal.dispose();
  return looks;
}

readline.createInterface({ input: process.stdin, terminal: false }).on('line', (line) => {
  process.stdout.write(`${JSON.stringify(JSON.parse(line).map(run))}\n`);
});
