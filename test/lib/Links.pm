package Links;

# Links and mentions in the documents of a tree, and whether they lead somewhere.  Needs
# Perl alone: test/packages looks with it at what is installed.
#
#   my @files = files($tree);                    the text files of the tree, as paths in it
#   my @broken = broken_links($tree, @files);    'page: link'
#   my @mentions = broken_mentions($tree, @files);    'file: page, section'

use strict;
use warnings;

use Exporter qw(import);
use File::Basename qw(dirname);
use File::Find qw(find);

our @EXPORT = qw(broken_links broken_mentions files headings);

sub _slurp
{
	my ($file) = @_;
	open my $in, '<', $file or die "$file: $!";
	local $/;
	return <$in> // '';
}

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
		foreach my $link (prose(_slurp("$tree/$page")) =~ /\]\(([^)\s]+)\)/g)
		{
			next if $link =~ /^[a-z]+:/;
			my ($path, $anchor) = $link =~ /^([^#]*)(?:#(.*))?$/;
			my $target = $path eq '' ? "$tree/$page" : dirname("$tree/$page") . "/$path";
			push @broken, "$page: $link"
			  if !-e $target || defined $anchor && ($target !~ /\.md$/ || !anchors(_slurp($target))->{$anchor});
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
		my $text = _slurp("$tree/$file");
		foreach my $page ($text =~ m{(?<![\w/.-])(docs/[\w-]+\.md)}g)
		{
			push @broken, "$file: $page" unless -e "$tree/$page";
		}
		while ($text =~ m{(?<![\w/.-])(docs/[\w-]+\.md|README(?:\.md)?), ([A-Z]\w+(?: [\w-]+)*)}g)
		{
			my ($page, $section) = ($1 eq 'README' ? 'README.md' : $1, $2);
			push @broken, "$file: $page, $section"
			  unless -e "$tree/$page" && grep { index($_, $section) == 0 } headings(_slurp("$tree/$page"));
		}
	}
	return @broken;
}

1;
