// @ts-check
// The shapes of what the scripts share, for readers and for TypeScript's check. No page loads this file.

/**
 * What Python writes into a page for its scripts, as JSON in the element #settings. `Settings` in
 * atlas/pages/settings.py has the same fields; `atlas.settings()` reads them.
 * @typedef {object} Settings
 * @property {string[]} kinds kinds of rows, in the order of their codes
 * @property {Record<string, number>} tables in how many scripts each table of data is cut
 * @property {boolean} neurons whether the site has cards of neurons
 * @property {string | null} map the page with the map of rows
 * @property {string} cite a line that identifies the model, the layer and the data
 * @property {number} sheet thumbnails in a row of a sheet
 * @property {number} front the sheet of the pictures that are shown first; -1 where there is none
 * @property {string} card the card of neuron 0; `numbered` gives those of the others
 * @property {number} lit up to so many highlighted points are shown by their thumbnails
 * @property {number} zoom how much larger than its thumbnail a patch is shown
 * @property {string} mark the colour of what is chosen
 * @property {string[]} palette colours of classes; codes of colours count through palette, ramp and heat
 * @property {string[]} ramp colours of what is measured, low to high
 * @property {string[]} heat colours of activations, weak to strong
 * @property {object | null} figure the Bokeh figure of the map
 * @property {Places | null} places the grid of 16-bit steps that points lie on
 * @property {Scheme[]} legend what the points can be coloured by
 * @property {string | null} colour the name of the scheme that colours them at first
 * @property {[string, number, number][]} mask how bits of a name's mask are numbered: scheme, stride, entries
 * @property {CardFiles | null} cards the tables of the cards of neurons; null where the page has none
 * @property {Drivers | null} drivers the tables of rows that activate each neuron most
 */

/**
 * The grid of steps that places are counted in.
 * @typedef {object} Places
 * @property {number} low the smallest step
 * @property {number} size how many steps there are
 * @property {number} span steps along the longer side of the map
 * @property {number} edge where the still picture ends, in steps from the middle
 * @property {[number, number, number]} origin x and y of step 0, and the length of a step, as the layout has them
 * @property {number} tile the side of a square in steps where every point has one of its own, else 0
 */

/**
 * Something to colour points by.
 * @typedef {object} Scheme
 * @property {string} name
 * @property {string} title
 * @property {string} about a sentence below the legend
 * @property {{name: string, count: number, hue: number}[]} entries `hue` is the code of a colour
 * @property {number[] | null} of the entry of each value of the scheme's column; null where the column holds entries
 */

/**
 * The rows that activate each neuron most, in tables drivers-0, drivers-1 and so on.
 * @typedef {object} Drivers
 * @property {number} neurons how many neurons there are
 * @property {number} block neurons in a table
 * @property {number} levels steps of an activation
 * @property {number} rows rows that were compared
 * @property {string[]} kinds their kinds
 */

/**
 * How the cards of neurons are stored.
 * @typedef {object} CardFiles
 * @property {number} shard cards in a table
 * @property {string} first the first table, cards-000; `numbered` gives the names of the others
 */

/** @typedef {Record<string, any>} Table columns by name: typed arrays with a `width`, or texts with at(i) and all() */
/** @typedef {ArrayLike<number> & Iterable<number>} Points numbers of points */
/** @typedef {{x0: number, x1: number, y0: number, y1: number}} Box */
/** @typedef {Box & {w: number, h: number, sx: number, sy: number, enlarged: number, toX: (x: number) => number,
 *   toY: (y: number) => number}} View what the plot shows, in steps, its size in pixels, and pixels a step */
/** @typedef {{sheet: number, x: number, y: number}} Spot a thumbnail: its sheet, and its column and row there */
/** @typedef {(share: number, count: number) => boolean} Progress told how far a search is; false ends the search */

/**
 * What is shown of rows, or of neurons, asked by number.
 * @typedef {object} RowTexts
 * @property {(row: number) => string} name
 * @property {(row: number) => string} about
 * @property {(row: number) => Spot} spot
 * @property {(row: number, tag?: string, attributes?: object) => HTMLElement} thumb
 */

/**
 * The points of a map and what is known of them. `atlas.whole`, `atlas.tiles` and `atlas.neuronSource` each make one.
 * @typedef {object} Source
 * @property {RowTexts & Record<string, any>} rows
 * @property {Table} points columns x, y, row and code (the colour), one entry a point
 * @property {number} n how many points there are
 * @property {ArrayLike<number>} pointOf the point of each row, -1 or undefined where it has none; see `located`
 * @property {Uint32Array} order the points that are drawn first, in the order of drawing
 * @property {(name: string) => (i: number) => number} reader reads the column of a scheme
 * @property {(points?: Points) => Promise<any>} need resolves when captions of points are there
 * @property {() => Promise<any>} more resolves when what cards alone show is there
 * @property {(i: number) => number[]} near the nearest points
 * @property {(i: number) => [number, number][]} neurons its neurons, each with tenths of a std above the mean
 * @property {(view: View) => Promise<number[] | null>} inside the points of a close view; null where they are too many
 * @property {(words: string[], report: Progress) => number[] | Promise<number[]>} find points whose texts hold words
 * @property {(points: Points, of: (i: number) => any) => Promise<any[]>} each what `of` says of each point
 * @property {(box: Box, keep: (i: number) => boolean, report: Progress) => Promise<number[]>} gather points of a box
 * @property {() => Promise<any>} located resolves when `pointOf` is filled
 * @property {(points: Points) => Promise<any>} bring resolves when the points have their places
 * @property {(i: number) => boolean} placed whether the place of a point is known
 * @property {(i: number) => number} number the row of the Store, or the neuron
 * @property {(i: number) => boolean} known whether the caption of a point is there
 */

/**
 * How points are shown. `atlas.rowView` and `atlas.neuronView` each make one.
 * @typedef {object} PointView
 * @property {number} side pixels of a thumbnail on the map
 * @property {(i: number) => boolean} isWritten whether a point is drawn as a word among pictures
 * @property {(i: number) => boolean} isSlanted whether that word is drawn in italics
 * @property {() => number} frame pixels of the frame of a thumbnail, in the colour of the point
 * @property {() => number} room how many points in view may be drawn as thumbnails
 * @property {(i: number) => {many: boolean, nodes: Node[]}} hint the tooltip
 * @property {string} nearest heading of the nearest points
 * @property {(i: number, number: number) => string} cited what a citation says of a point
 * @property {(i: number) => HTMLElement[]} parts further parts of the card
 * @property {(names: Table, k: number) => boolean} named whether the k-th name has points that are shown
 * @property {{heads: string[], cells: (i: number) => string[], record: (i: number) => object}} table the selection
 * @property {(hits: number[] | null) => void} listed told of what was found
 * @property {() => Promise<Table>} regions names of regions
 */

/**
 * What the parts of a map share. `atlas.createPage` makes it, and map.js adds the parts.
 * @typedef {object} PageState
 * @property {Settings} settings
 * @property {boolean} moved whether the reader moved the view
 * @property {Table | null} names the table of neurons, for their names
 * @property {number[] | null} lit points that activate the chosen neuron most, the strongest first
 * @property {number} pictured how many of them are shown as thumbnails
 * @property {() => Points} shown the points that are drawn
 * @property {() => void} refresh draws again after another colour, filter or part
 * @property {() => string | null} leading which of several highlights stands out
 * @property {(act?: string) => void} light highlights the neuron's points, what was found, or what is selected
 * @property {(part: HTMLElement, to?: HTMLElement) => void} leave moves the focus out of a part that closes
 * @property {() => void} changed has the address written soon; a pick, a neuron or a selection is a step of history
 * @property {(held?: boolean) => void} written has the address written now; held: by a key that is held down
 * @property {(i: number, fly?: boolean) => void} pick opens the card of a point
 * @property {() => void} settle draws all points of a close view once the view rests
 * @property {Scatter} scatter
 * @property {Legend} legend
 * @property {Between} between
 * @property {Card} card
 * @property {Finder} finder
 * @property {SelectionPanel} selection
 * @property {Address} address
 */
/** @typedef {Source & PointView & PageState} Page */

/** @typedef {Record<string, string | number | null>} State what a part keeps in the address */

/**
 * @typedef {object} Legend
 * @property {(i: number) => boolean} visible whether the legend's filters let a point through
 * @property {() => boolean} hidden whether any entry is filtered out
 * @property {(names: Table, k: number) => boolean} named whether the k-th name has points that are shown
 * @property {() => boolean} plain whether colours and filters are as at first
 * @property {() => string} colour
 * @property {() => void} paint
 * @property {() => void} show
 * @property {(by: string) => void} choose
 * @property {(neuron: number) => Promise<void>} light
 * @property {() => State} state
 * @property {(by: string | null, neuron: number, hide: string | null) => Promise<void>} restore
 */

/**
 * @typedef {object} Between
 * @property {(i: number) => void} picked
 * @property {(i: number, redraw: () => void) => HTMLElement | null} part
 * @property {() => number[]} way
 * @property {() => void} forget
 * @property {() => State} state
 * @property {(text: string | null) => void} restore
 */

/**
 * @typedef {object} Card
 * @property {(i: number, fly?: boolean, held?: boolean) => Promise<void>} pick
 * @property {() => void} close
 * @property {() => Promise<void>} again draws the card once more, when more of it is known
 * @property {() => string} cited
 * @property {() => State} state
 */

/**
 * @typedef {object} Finder
 * @property {() => Promise<void>} search
 * @property {(by: string) => Promise<void>} choose
 * @property {() => number[] | null} hits
 * @property {() => State} state
 * @property {(text: string, by: string | null) => Promise<void>} set
 */

/**
 * @typedef {object} SelectionPanel
 * @property {(corners: number[][]) => Promise<void>} take
 * @property {() => Promise<void>} clear
 * @property {() => void} stop
 * @property {() => number[] | null} chosen
 * @property {() => Promise<object[]>} records
 * @property {(records: object[]) => string} csv
 * @property {() => State} state
 * @property {(text: string | null, earlier: string | null) => Promise<void>} restore
 */

/** @typedef {{read: () => Promise<void>, write: (held?: boolean) => void, later: () => void,
 *   before: () => number | null}} Address */

/**
 * The drawn points.
 * @typedef {object} Scatter
 * @property {(points: Points) => void} fill
 * @property {(points: Points | null, pictured?: Points | null) => void} light
 * @property {(points: number[]) => void} mark
 * @property {(i: number) => void} fly
 * @property {(x: number, y: number, span: number) => void} look
 * @property {() => void} all
 * @property {(factor: number) => void} zoom
 * @property {(x: number, y: number) => number} nearest
 * @property {() => void} repaint
 * @property {() => View} view
 * @property {() => [number, number, number]} seen x and y of the middle, and the width that is seen
 * @property {(i: number) => [number, number]} place where on the page a point is
 * @property {() => number} pointed
 * @property {() => Points | null} bright
 * @property {(names: Table) => void} name
 * @property {(corners: number[][] | null) => void} trace
 * @property {HTMLElement} stage
 * @property {HTMLElement} plot
 * @property {() => Overlaid} over
 */

/**
 * What a scatter asks of the page.
 * @typedef {object} ScatterOptions
 * @property {number} room
 * @property {number} frame
 * @property {number} side
 * @property {(i: number) => Spot} spot
 * @property {(i: number) => boolean} written
 * @property {Table | null} front points that stand for those around them, and their cells in the front sheet
 * @property {(i: number) => boolean} visible
 * @property {(i: number) => boolean} slanted
 * @property {(i: number) => string} text the word of a point; empty where it is not known yet
 * @property {(i: number, x: number, y: number) => void} hover
 * @property {(i: number) => void} pick
 * @property {() => void} moved
 * @property {HTMLElement | null} still the still picture, where it stays below the points
 * @property {(names: Table, k: number) => boolean} named
 */

/** @typedef {{i: number, box: number[], text: string, slanted: boolean}} Word a word on the map, and where on screen */
/** @typedef {{find: (pen: any, view: View, writing: PlaceIndex, marked: number[], lit: Points | null,
 *   taken: number[][], side: number, room: number) => Word[],
 *   draw: (pen: any, words: Word[], marked: number[]) => void}} Writer */
/** @typedef {{drawn: number[][], side: number, named: {k: number, box: number[], text: string}[],
 *   words: Word[]}} Overlaid */

/** @typedef {{of: Points, count: (x0: number, y0: number, x1: number, y1: number) => number,
 *   inside: (x0: number, y0: number, x1: number, y1: number) => number[],
 *   nearest: (x: number, y: number, reach: number, sx: number, sy: number) => number}} PlaceIndex */

/** @typedef {{pictures: PlaceIndex, writing: PlaceIndex}} Parts points shown by thumbnails, and by words */
/** @typedef {{draw: (view: View, parts: Parts, marked: number[], lit: Points | null) => Overlaid,
 *   name: (names: Table) => void, trace: (corners: number[][] | null) => void,
 *   hue: (code: number) => string}} Overlay */

/** @typedef {{set: (layers: {of: Points, size: number, alpha: number}[]) => void,
 *   draw: (view: View) => void}} Raster */

/** @typedef {{rows: RowTexts & Record<string, any>, columns: Table, labels: string[], words: string[],
 *   covers: (i: number) => HTMLElement[], n: number, all: Uint32Array,
 *   find: (words: string[]) => number[]}} NeuronTable */

/**
 * What the scripts of a page share. atlas.js makes it; every other script adds its function.
 * @typedef {object} Atlas
 * @property {(name: string, columns: object, packed: string, piece?: number) => void} data called by data scripts
 * @property {(packed: Uint8Array) => Promise<ArrayBuffer>} inflate
 * @property {(base64: string) => Uint8Array} bytes
 * @property {(name: string) => Promise<any> | undefined} table
 * @property {(name: string) => void} forget
 * @property {() => Settings} settings
 * @property {(name: string, attributes?: Record<string, any>, ...children: any[]) => any} element
 * @property {(id: string) => any} byId
 * @property {(selector: string) => any} one
 * @property {(selector: string) => any[]} all
 * @property {(cell: number) => {x: number, y: number}} cellPlace column and row of a cell in its sheet
 * @property {new (table: Table, kinds: string[]) => RowTexts & Record<string, any>} Rows
 * @property {(x: number, y: number, many: boolean, ...children: Node[]) => void} show shows the tooltip
 * @property {() => void} hide
 * @property {(part: HTMLElement) => void} reveal
 * @property {(neuron: number) => string} address
 * @property {(first: string, number: number) => string} numbered the name of a number's file, from that of number 0
 * @property {(text: string) => string[]} words
 * @property {Promise<void>} [library] resolves when BokehJS is there
 * @property {(wanted: string[]) => (text: string) => number} [rank]
 * @property {(page: Page) => {tell: () => void, describe: (neuron: number, of: {found: [number, number][],
 *   strip: number[], least: number, most: number}, names: Table | null, close: () => void) => void}} [lit]
 * @property {(columns: Table) => (wanted: string[]) => number[]} [neuronFinder]
 * @property {(keys: number[], n: number) => number[]} [ranked]
 * @property {(points: Table, of: Points) => PlaceIndex} [places]
 * @property {(stage: HTMLElement, points: Table, options: ScatterOptions, repaint: () => void) => Overlay} [overlay]
 * @property {(stage: HTMLElement, points: Table, options: ScatterOptions) => Writer} [writer]
 * @property {() => boolean} [accelerated]
 * @property {(stage: HTMLElement, points: Table, hue: (code: number) => string) => Raster} [raster]
 * @property {(target: string, points: Table, options: ScatterOptions) => Promise<Scatter>} [scatter]
 * @property {(of: Uint32Array) => Uint32Array} [scattered]
 * @property {(settings: Settings) => Promise<Source>} [whole]
 * @property {(settings: Settings) => Promise<Source>} [tiles]
 * @property {() => Promise<NeuronTable>} [neurons]
 * @property {(settings: Settings) => Promise<Source>} [neuronSource] there on the page of neurons
 * @property {(page: Page) => Promise<PointView>} [neuronView]
 * @property {(page: Page) => Promise<PointView>} [rowView]
 * @property {{cut: (keep: (i: number) => boolean) => void}} [list] the table of neurons
 * @property {(settings: Settings, source: Source) => Promise<Page>} [createPage]
 * @property {(page: Page) => Legend} [legend]
 * @property {(page: Page) => Between} [between]
 * @property {(page: Page) => Card} [card]
 * @property {(page: Page) => Finder} [find]
 * @property {(page: Page) => {sides: (these: number[], others?: number[]) => Promise<HTMLElement[]>,
 *   pictured: (these: number[], most: number) => HTMLElement}} [apart]
 * @property {(page: Page) => SelectionPanel} [selection]
 * @property {(page: Page) => Address} [remember]
 * @property {Page} [page] the map's page once it is ready
 */
