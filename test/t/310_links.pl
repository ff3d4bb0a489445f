# The documents hang together: each relative link and each anchor in any *.md leads
# somewhere, so does each mention of a page or of its section in code, tests and scripts,
# docs/README.md lists all pages, and each page says first for whom it is.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../lib";

use CmqNode;
use File::Basename qw(dirname);
use File::Find qw(find);
use PostgreSQL::Test::Utils qw(append_to_file slurp_file);
use Test::More;

# The text files of a tree, as paths in it; not what is built, fetched or left by tests.
sub files
{
	my ($tree) = @_;
	my @files;
	find({ no_chdir => 1, wanted => sub {
		my $path = s{^\Q$tree\E/?}{}r;
		return $File::Find::prune = 1 if -d && $path =~ m{^(?:\.git|debian|dist|results|log|output_iso|tmp_\w+|.*/node_modules)$};
		push @files, $path if -f && -T;
	} }, $tree);
	return sort @files;
}

# Without fenced code and inline code.
sub prose
{
	my ($text) = @_;
	$text =~ s/^```.*?^```$//msg;
	$text =~ s/`[^`\n]*`//g;
	return $text;
}

sub headings
{
	my ($text) = @_;
	$text =~ s/^```.*?^```$//msg;
	return $text =~ /^#+ (.*)$/mg;
}

# What a link to a heading ends in, as GitHub and GitLab make it.
sub anchors
{
	my (%anchor, %seen);
	foreach my $heading (headings(@_))
	{
		my $name = lc($heading =~ s/\[([^\]]*)\]\([^)]*\)/$1/gr) =~ s/[^\w\- ]//gr =~ tr/ /-/r;
		my $n = $seen{$name}++;
		$anchor{$n ? "$name-$n" : $name} = 1;
	}
	return \%anchor;
}

# Relative links in the pages of a tree that lead nowhere, as 'page: link'.
sub broken_links
{
	my ($tree, @files) = @_;
	my @broken;
	foreach my $page (grep { /\.md$/ } @files)
	{
		foreach my $link (prose(slurp_file("$tree/$page")) =~ /\]\(([^)\s]+)\)/g)
		{
			next if $link =~ /^[a-z]+:/;
			my ($path, $anchor) = $link =~ /^([^#]*)(?:#(.*))?$/;
			my $target = $path eq '' ? "$tree/$page" : dirname("$tree/$page") . "/$path";
			push @broken, "$page: $link"
			  if !-e $target || defined $anchor && ($target !~ /\.md$/ || !anchors(slurp_file($target))->{$anchor});
		}
	}
	return @broken;
}

# Mentions of pages and sections that are not there: 'docs/operations.md', 'docs/rewind.md, Step by step',
# 'README.md, Install'.
sub broken_mentions
{
	my ($tree, @files) = @_;
	my @broken;
	foreach my $file (@files)
	{
		my $text = slurp_file("$tree/$file");
		foreach my $page ($text =~ m{(?<![\w/.-])(docs/[\w-]+\.md)}g)
		{
			push @broken, "$file: $page" unless -e "$tree/$page";
		}
		while ($text =~ m{(?<![\w/.-])(docs/[\w-]+\.md|README(?:\.md)?), ([A-Z]\w+(?: [\w-]+)*)}g)
		{
			my ($page, $section) = ($1 eq 'README' ? 'README.md' : $1, $2);
			push @broken, "$file: $page, $section"
			  unless -e "$tree/$page" && grep { index($_, $section) == 0 } headings(slurp_file("$tree/$page"));
		}
	}
	return @broken;
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
cmp_ok(length $readme, '<', 9000, 'README.md is short');
done_testing();
