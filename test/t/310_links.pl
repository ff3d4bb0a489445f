# The documents hang together: each relative link and each anchor in any *.md leads
# somewhere, so does each mention of a page or of its section in code, tests and scripts,
# docs/README.md lists all pages, each page says first for whom it is, and the figures of
# docs/performance.md are among those of bench/RESULTS.md.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use Links;
use PostgreSQL::Test::Utils qw(append_to_file slurp_file);
use Test::More;

# The figures in the tables of a page that no figure of the results, rounded to as many
# places, or to three if it is 10,000 or more, is like.
sub strange_figures
{
	my ($page, $results) = @_;
	my $figure = qr/(?<![\w.])\d[\d,]*(?:\.\d+)?/;
	my @known = map { tr/,//dr } $results =~ /$figure/g;

	return grep {
		my $value = tr/,//dr;
		my $places = /\.(\d+)/ ? length $1 : 0;
		my $unit = $value >= 10_000 && $value =~ /^\d{3}(0+)$/ ? 10**length $1 : 10**-$places;

		!grep { abs($_ - $value) <= $unit / 2 + 1e-9 } @known;
	} map { /$figure/g } $page =~ /^\|.*$/mg;
}

note 'a tree with faults';

my $tree = PostgreSQL::Test::Utils::tempdir();
mkdir "$tree/docs" or die;
append_to_file("$tree/README.md", <<'MD');
# Top
## First things, `cmq_x()` too
## Twice
## Twice
```
# No heading
[no link](nowhere.md)
```
[a](docs/a.md), [b](docs/a.md#to-begin), [c](#twice-1), [d](#first-things-cmq_x-too), `[no link](x.md)`, [web](https://example.com/x)
[1](docs/b.md), [2](docs/a.md#to-end), [3](#no-heading), ![4](docs/a.png), [5](#twice-2)
MD
append_to_file("$tree/docs/a.md", "# A\n## To begin\n[up](../README.md#top) [6](README.md)\n");
append_to_file("$tree/a.c", "/* docs/a.md, To begin; docs/a.md, To end; docs/c.md; README, Twice; README.md, Thrice */\n");
is(join("\n", broken_links($tree, files($tree))),
	join("\n", map { "README.md: $_" } 'docs/b.md', 'docs/a.md#to-end', '#no-heading', 'docs/a.png', '#twice-2') . "\ndocs/a.md: README.md", 'broken links are found');
is(join("\n", broken_mentions($tree, files($tree))), join("\n", 'README.md: docs/b.md', map { "a.c: $_" } 'docs/c.md', 'docs/a.md, To end', 'README.md, Thrice'), 'broken mentions are found');

is(join(' ', strange_figures("5\n| a8 | 1.2, 19,600 | 0.5 |\n| 1,178 | 19,500 | 19,610 | 7.3 |", '1.24 (19,601 .. 1,178.4), 0.54, 7.2')),
	'19,500 19,610 7.3', 'figures that nobody has measured are found');

note 'this tree';

my @files = grep { $_ ne 'test/t/310_links.pl' } files($top);
my @pages = grep { m{^docs/[^/]+\.md$} && $_ ne 'docs/README.md' } @files;
cmp_ok(scalar @pages, '>=', 14, 'there are pages');
my @broken = broken_links($top, @files);
is(join("\n", @broken), '', 'links lead somewhere');
is(join("\n", broken_mentions($top, @files)), '', 'mentions of pages and sections lead somewhere');

my %listed = map { $_ => 1 } slurp_file("$top/docs/README.md") =~ /\]\(([\w-]+\.md)\)/g;
is(join(' ', grep { !$listed{ s{^docs/}{}r } } @pages), '', 'docs/README.md lists all pages');
my $readme = slurp_file("$top/README.md");
is(join(' ', grep { index($readme, "]($_)") < 0 } @pages), '', 'README.md leads to all pages');
is(join(' ', grep { slurp_file("$top/$_") !~ /\A# [^\n]+\n\nFor (?:the|those|all) / } @pages, 'docs/README.md'), '', 'each page says first for whom it is');
my $performance = slurp_file("$top/docs/performance.md");
cmp_ok(scalar(() = $performance =~ /^\|/mg), '>', 30, 'docs/performance.md has tables');
is(join(' ', strange_figures($performance, slurp_file("$top/bench/RESULTS.md"))), '', 'their figures are in bench/RESULTS.md');
cmp_ok(length $readme, '<', 9000, 'README.md is short');
done_testing();
